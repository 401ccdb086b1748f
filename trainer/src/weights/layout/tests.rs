//! Names of every library, and what is refused by its architecture.

use super::*;
use tch::{Device, Kind};

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

fn named(tensors: &[(&str, &[i64])]) -> NamedTensors {
    let tensors = tensors.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect();
    NamedTensors::from_tensors("a file", tensors)
}

fn names(tensors: &NamedTensors) -> Vec<&str> {
    tensors.names().collect()
}

const TOWER: [(&str, &[i64]); 4] = [
    ("class_embedding", &[8]),
    ("conv1.weight", &[8, 3, 4, 4]),
    ("ln_pre.weight", &[8]),
    ("positional_embedding", &[5, 8]),
];

fn with_prefix(prefix: &str, tensors: &[(&str, &[i64])]) -> NamedTensors {
    let tensors = tensors.iter().map(|(name, shape)| (format!("{prefix}{name}"), zeros(shape))).collect();
    NamedTensors::from_tensors("a file", tensors)
}

const VIT: [(&str, &[i64]); 6] = [
    ("cls_token", &[1, 1, 8]),
    ("patch_embed.proj.weight", &[8, 3, 4, 4]),
    ("patch_embed.proj.bias", &[8]),
    ("pos_embed", &[1, 5, 8]),
    ("blocks.0.attn.qkv.weight", &[24, 8]),
    ("blocks.0.attn.qkv.bias", &[24]),
];

fn refusal(tensors: NamedTensors) -> String {
    normalise(tensors).unwrap_err().to_string()
}

#[test]
fn any_common_prefix_is_taken_off_and_told() {
    for prefix in ["module.", "model.clip.", "state_dict.module.", "a.b.c."] {
        let (tensors, layout) = normalise(with_prefix(&format!("{prefix}visual."), &TOWER)).unwrap();
        assert_eq!(layout, TensorLayout::OpenAiClip);
        assert_eq!(names(&tensors)[0], "visual.class_embedding");
        assert_eq!(tensors.notes(), [format!("the names begin with `{prefix}`, which is removed")]);
        let (tensors, layout) = normalise(with_prefix(prefix, &VIT)).unwrap();
        assert_eq!((layout, names(&tensors)[2]), (TensorLayout::TimmVit, "cls_token"));
    }
}

#[test]
fn wrappers_are_taken_out_of_the_middle_of_names() {
    let (tensors, _) = normalise(with_prefix("_orig_mod.visual._fsdp_wrapped_module.", &TOWER)).unwrap();
    assert_eq!(names(&tensors)[0], "visual.class_embedding");
    assert!(tensors.notes()[0].contains("`_orig_mod.`"), "{:?}", tensors.notes());
}

#[test]
fn a_name_without_the_prefix_stays_for_the_reader_to_refuse() {
    let prefixed = |other: &str| {
        let tower = TOWER.map(|(name, shape)| (format!("m.visual.{name}"), zeros(shape)));
        let tensors = tower.into_iter().chain([(other.to_owned(), zeros(&[2]))]).collect();
        normalise(NamedTensors::from_tensors("a file", tensors))
    };
    assert!(prefixed("criterion.weight").unwrap().0.contains("criterion.weight"));
    let twice = prefixed("visual.ln_pre.weight").unwrap_err().to_string();
    assert!(twice.contains("`visual.ln_pre.weight` occurs twice, with the prefix `m.`"), "{twice}");
}

#[test]
fn two_models_are_refused_with_their_prefixes() {
    let all: Vec<(String, &[i64])> = ["student.", "teacher."]
        .iter()
        .flat_map(|p| VIT.map(|(name, shape)| (format!("{p}{name}"), shape)))
        .collect();
    let all: Vec<(&str, &[i64])> = all.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    assert!(refusal(named(&all)).contains("`student.` and `teacher.`"));
}

#[test]
fn an_image_tower_alone_is_a_clip_without_texts() {
    let (tensors, layout) = normalise(with_prefix("", &TOWER)).unwrap();
    assert_eq!(layout, TensorLayout::OpenAiClip);
    assert_eq!(tensors.naming(), Some(Naming::OpenAiTower));
    assert!(names(&tensors).iter().all(|name| name.starts_with("visual.")), "{:?}", names(&tensors));
    let tower: [(&str, &[i64]); 5] = [
        ("embeddings.class_embedding", &[8]),
        ("embeddings.patch_embedding.weight", &[8, 3, 4, 4]),
        ("pre_layrnorm.weight", &[8]),
        ("embeddings.position_ids", &[1, 5]),
        ("encoder.layers.0.mlp.fc1.weight", &[32, 8]),
    ];
    for prefix in ["", "vision_model."] {
        let (tensors, layout) = normalise(with_prefix(prefix, &tower)).unwrap();
        assert_eq!(layout, TensorLayout::OpenAiClip);
        assert_eq!(
            names(&tensors),
            [
                "visual.class_embedding",
                "visual.conv1.weight",
                "visual.ln_pre.weight",
                "visual.transformer.resblocks.0.mlp.c_fc.weight"
            ]
        );
    }
}

#[test]
fn open_clips_text_prefix_is_taken_off() {
    let text: [(&str, &[i64]); 4] = [
        ("text.token_embedding.weight", &[9, 8]),
        ("text.transformer.resblocks.0.ln_1.weight", &[8]),
        ("logit_scale", &[1]),
        ("logit_bias", &[]),
    ];
    let tower = TOWER.map(|(name, shape)| (format!("visual.{name}"), shape));
    let all: Vec<(&str, &[i64])> =
        tower.iter().map(|(name, shape)| (name.as_str(), *shape)).chain(text).collect();
    let (tensors, _) = normalise(named(&all)).unwrap();
    assert!(
        tensors.contains("token_embedding.weight") && tensors.contains("transformer.resblocks.0.ln_1.weight")
    );
    assert_eq!(tensors.get("logit_scale").unwrap().size(), [0_i64; 0]);
    assert!(!tensors.contains("logit_bias"));
    assert!(tensors.notes()[0].contains("`logit_bias` is ignored"));
}

#[test]
fn timms_clip_becomes_openais_image_tower() {
    let vit = [
        ("cls_token", &[1, 1, 8][..]),
        ("patch_embed.proj.weight", &[8, 3, 4, 4]),
        ("pos_embed", &[1, 5, 8]),
        ("norm_pre.weight", &[8]),
        ("norm.weight", &[8]),
        ("blocks.0.attn.qkv.weight", &[24, 8]),
        ("blocks.0.attn.proj.bias", &[8]),
        ("head.weight", &[6, 8]),
        ("head.bias", &[6]),
    ];
    let (tensors, layout) = normalise(named(&vit)).unwrap();
    assert_eq!((layout, tensors.naming()), (TensorLayout::OpenAiClip, Some(Naming::TimmClip)));
    assert_eq!(
        names(&tensors),
        [
            "visual.class_embedding",
            "visual.conv1.weight",
            "visual.ln_post.weight",
            "visual.ln_pre.weight",
            "visual.positional_embedding",
            "visual.transformer.resblocks.0.attn.in_proj_weight",
            "visual.transformer.resblocks.0.attn.out_proj.bias",
        ]
    );
    assert_eq!(tensors.get("visual.class_embedding").unwrap().size(), [8]);
    assert_eq!(tensors.get("visual.positional_embedding").unwrap().size(), [5, 8]);
}

#[test]
fn hugging_faces_vit_becomes_timms() {
    let inner: [(&str, &[i64]); 12] = [
        ("embeddings.cls_token", &[1, 1, 8]),
        ("embeddings.mask_token", &[1, 1, 8]),
        ("embeddings.position_embeddings", &[1, 5, 8]),
        ("embeddings.patch_embeddings.projection.weight", &[8, 3, 4, 4]),
        ("embeddings.patch_embeddings.projection.bias", &[8]),
        ("encoder.layer.0.attention.attention.query.bias", &[8]),
        ("encoder.layer.0.attention.attention.key.bias", &[8]),
        ("encoder.layer.0.attention.attention.value.bias", &[8]),
        ("encoder.layer.0.attention.output.dense.weight", &[8, 8]),
        ("encoder.layer.0.output.dense.weight", &[8, 32]),
        ("layernorm.weight", &[8]),
        ("pooler.dense.weight", &[8, 8]),
    ];
    for (prefix, outer) in [("", ""), ("vit.", ""), ("module.vit.", "module.")] {
        let classifier = format!("{outer}classifier.weight");
        let all: Vec<(String, &[i64])> =
            inner.iter().map(|(name, shape)| (format!("{prefix}{name}"), *shape)).collect();
        let mut all: Vec<(&str, &[i64])> = all.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        all.push((&classifier, &[10, 8]));
        let (tensors, layout) = normalise(named(&all)).unwrap();
        assert_eq!(layout, TensorLayout::TimmVit);
        assert_eq!(
            names(&tensors),
            [
                "blocks.0.attn.proj.weight",
                "blocks.0.attn.qkv.bias",
                "blocks.0.mlp.fc2.weight",
                "cls_token",
                "norm.weight",
                "patch_embed.proj.bias",
                "patch_embed.proj.weight",
                "pos_embed",
            ]
        );
        assert_eq!(tensors.get("blocks.0.attn.qkv.bias").unwrap().size(), [24]);
        assert_eq!(tensors.notes().len(), usize::from(!outer.is_empty()));
    }
}

/// Queries first, then keys, then values; and the fingerprint is that of the names in the file.
#[test]
fn a_layout_changes_the_names_and_not_the_fingerprint() {
    let one = |value: i64| Tensor::full([2], value, (Kind::Float, Device::Cpu));
    let attention = "vision_model.encoder.layers.0.self_attn.";
    let tensors: BTreeMap<String, Tensor> = [
        ("vision_model.embeddings.class_embedding".to_owned(), one(0)),
        ("vision_model.pre_layrnorm.weight".to_owned(), one(4)),
        (format!("{attention}k_proj.bias"), one(2)),
        (format!("{attention}q_proj.bias"), one(1)),
        (format!("{attention}v_proj.bias"), one(3)),
    ]
    .into();
    let tensors = NamedTensors::from_tensors("a file", tensors);
    let before = tensors.fingerprint();
    let (tensors, _) = normalise(tensors).unwrap();
    assert_eq!(tensors.fingerprint(), before);
    let joined = tensors.get("visual.transformer.resblocks.0.attn.in_proj_bias").unwrap();
    assert_eq!(Vec::<f64>::try_from(joined).unwrap(), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
}

#[test]
fn what_is_not_computed_is_refused_by_its_architecture() {
    let more = |name: &'static str| VIT.into_iter().chain([(name, &[8][..])]).collect::<Vec<_>>();
    for (extra, expected) in [
        ("fc_norm.weight", "mean of its patches"),
        ("storage_tokens", "a DINOv3"),
        ("blocks.0.mlp.w12.weight", "SwiGLU (DINOv2 giant)"),
        ("dist_token", "DeiT with a distillation token"),
        ("blocks.0.attn.q_norm.weight", "qk_norm"),
        ("blocks.0.attn.relative_position_bias_table", "a BEiT"),
        ("blocks.0.attn.q_bias", "a BEiT or an EVA"),
        ("blocks.0.mlp.fc1_g.weight", "an EVA-02"),
        ("norm_pre.weight", "a ViT with a norm before its first block"),
    ] {
        let text = refusal(named(&more(extra)));
        assert!(text.contains(expected) && text.contains("is not supported"), "{extra}: {text}");
    }
    for (name, expected) in [
        ("layers.0.blocks.0.attn.relative_position_bias_table", "a Swin transformer"),
        ("visual.attnpool.positional_embedding", "a CLIP with a ResNet"),
        ("layer1.0.conv1.weight", "a ResNet"),
        ("visual.trunk.cls_token", "an image tower of timm's"),
        ("encoder.layer.0.mlp.weights_in.weight", "SwiGLU (DINOv2 giant)"),
        ("embeddings.patch_embeddings.weight", "a DINOv3"),
        ("text_model.embeddings.token_embedding.weight", "a text tower without an image tower"),
        ("tuner.a.weight", "tensors that LIFT trained, without their backbone"),
    ] {
        let text = refusal(named(&[(name, &[8])]));
        assert!(text.contains(expected), "{name}: {text}");
    }
    assert!(refusal(named(&[])).contains("contains no tensors"));
    let text = refusal(named(&[("something.else", &[8])]));
    assert!(text.contains("found tensors such as `something.else`"), "{text}");
}

#[test]
fn a_vit_that_lacks_a_part_is_refused_by_what_it_lacks() {
    let without = |left_out: &str| {
        let left: Vec<_> = VIT.into_iter().filter(|(name, _)| *name != left_out).collect();
        refusal(named(&left))
    };
    assert!(without("blocks.0.attn.qkv.bias").contains("qkv_bias=False"));
    assert!(without("patch_embed.proj.bias").contains("whose patches have no bias"));
    assert!(without("pos_embed").contains("without learned positions"));
    assert!(without("cls_token").contains("without a class token"));
    let mut alone = VIT;
    alone[3].1 = &[1, 4, 8];
    assert!(refusal(named(&alone)).contains("no_embed_class"));
    let with_registers: Vec<_> = alone.into_iter().chain([("reg_token", &[1, 4, 8][..])]).collect();
    assert!(normalise(named(&with_registers)).is_ok());
}

#[test]
fn a_gated_mlp_and_patches_of_any_shape_are_refused_by_their_architecture() {
    let gated = VIT
        .into_iter()
        .chain([("blocks.0.mlp.fc1.weight", &[32, 8][..]), ("blocks.0.mlp.fc2.weight", &[8, 16])]);
    assert!(refusal(named(&gated.collect::<Vec<_>>())).contains("SwiGLU (DINOv2 giant)"));
    let flexible: [(&str, &[i64]); 3] = [
        ("vision_model.head.probe", &[1, 1, 8]),
        ("vision_model.embeddings.patch_embedding.weight", &[8, 48]),
        ("vision_model.embeddings.patch_embedding.bias", &[8]),
    ];
    assert!(refusal(named(&flexible)).contains("NaFlex"));
}

#[test]
fn the_original_dinov2_has_timms_names_but_for_registers_and_mask() {
    let vit = VIT.into_iter().chain([("register_tokens", &[1, 4, 8][..]), ("mask_token", &[1, 8])]);
    let (tensors, layout) = normalise(named(&vit.collect::<Vec<_>>())).unwrap();
    assert_eq!((layout, tensors.naming()), (TensorLayout::TimmVit, Some(Naming::Timm)));
    assert!(tensors.contains("reg_token") && !tensors.contains("register_tokens"));
    assert!(!tensors.contains("mask_token") && tensors.notes()[0].contains("`mask_token` is ignored"));
}

#[test]
fn hugging_faces_dinov2_has_had_two_names_for_its_queries() {
    for (attention, [q, k, v, o]) in [
        ("attention.attention.", ["query", "key", "value", "output.dense"]),
        ("attention.", ["q_proj", "k_proj", "v_proj", "o_proj"]),
    ] {
        let layer = "dinov2.encoder.layer.0.";
        let out = if o == "output.dense" {
            format!("{layer}attention.{o}.bias")
        } else {
            format!("{layer}{attention}{o}.bias")
        };
        let mut all: Vec<String> =
            [q, k, v].iter().map(|part| format!("{layer}{attention}{part}.bias")).collect();
        all.extend([out, format!("{layer}layer_scale1.lambda1"), format!("{layer}mlp.fc1.bias")]);
        all.extend(["dinov2.embeddings.cls_token".to_owned(), "classifier.weight".to_owned()]);
        for name in ["patch_embeddings.projection.bias", "position_embeddings"] {
            all.push(format!("dinov2.embeddings.{name}"));
        }
        let all: Vec<(&str, &[i64])> = all.iter().map(|name| (name.as_str(), &[8][..])).collect();
        let (tensors, _) = normalise(named(&all)).unwrap();
        assert_eq!(tensors.naming(), Some(Naming::HuggingFaceDinov2));
        assert_eq!(
            names(&tensors),
            [
                "blocks.0.attn.proj.bias",
                "blocks.0.attn.qkv.bias",
                "blocks.0.ls1.gamma",
                "blocks.0.mlp.fc1.bias",
                "cls_token",
                "patch_embed.proj.bias",
                "pos_embed",
            ]
        );
        assert!(tensors.notes().is_empty(), "{:?}", tensors.notes());
    }
}

/// The query of the pooling comes from the first third of its joined product.
#[test]
fn siglips_pooling_is_split_into_query_and_the_rest() {
    let tensors = [
        ("vision_model.head.probe".to_owned(), zeros(&[1, 1, 1])),
        ("vision_model.embeddings.patch_embedding.weight".to_owned(), zeros(&[1, 3, 4, 4])),
        ("vision_model.embeddings.patch_embedding.bias".to_owned(), zeros(&[1])),
        ("vision_model.embeddings.position_embedding.weight".to_owned(), zeros(&[4, 1])),
        ("vision_model.head.attention.in_proj_bias".to_owned(), Tensor::from_slice(&[1.0, 2.0, 3.0])),
        ("text_model.head.weight".to_owned(), zeros(&[1, 1])),
    ];
    let (tensors, _) = normalise(NamedTensors::from_tensors("a file", tensors.into())).unwrap();
    let numbers = |name: &str| Vec::<f64>::try_from(tensors.get(name).unwrap()).unwrap();
    assert_eq!((numbers("attn_pool.q.bias"), numbers("attn_pool.kv.bias")), (vec![1.0], vec![2.0, 3.0]));
    assert_eq!(tensors.get("pos_embed").unwrap().size(), [1, 4, 1]);
    assert!(!tensors.contains("text_model.head.weight"));
}
