use super::*;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// A CLIP or ViT of that width and depth by its names, with patches of 16.
fn file(layout: TensorLayout, width: i64, layers: usize) -> NamedTensors {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let (patches, block) = match layout {
        TensorLayout::OpenAiClip => ("visual.conv1.weight", "visual.transformer.resblocks"),
        TensorLayout::TimmVit => ("patch_embed.proj.weight", "blocks"),
    };
    let mut tensors = BTreeMap::from([(patches.to_owned(), zeros(&[width, 3, 16, 16]))]);
    tensors.extend((0..layers).map(|i| (format!("{block}.{i}.x"), zeros(&[1]))));
    if layout == TensorLayout::OpenAiClip {
        tensors.insert("token_embedding.weight".to_owned(), zeros(&[10, 512]));
    }
    NamedTensors::from_tensors("weights", tensors)
}

fn by<T>(value: T, of_user: bool) -> StatedValue<T> {
    StatedValue { value: Some(value), of_user, origin: if of_user { "--set" } else { "preset" }.to_owned() }
}

fn preset() -> Stated {
    Stated {
        activation: by(Activation::QuickGelu, false),
        width: by(768, false),
        layers: by(12, false),
        patch: by(16, false),
        resolution: by(224, false),
        pixels: by(Pixels { mean: [0.5; 3], std: [0.5; 3] }, false),
        ..Stated::default()
    }
}

fn settle(
    width: i64,
    beside: Option<&SidecarConfig>,
    stated: &Stated,
) -> Result<(BackboneConfig, Vec<String>), String> {
    let tensors = file(TensorLayout::OpenAiClip, width, 12);
    BackboneConfig::settle(&tensors, TensorLayout::OpenAiClip, beside, stated)
        .map_err(|error| error.to_string())
}

/// The configuration in a folder with these files.
fn read(files: &[(&str, &str)]) -> Result<Option<SidecarConfig>, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    SidecarConfig::read(|name| Some(folder.path().join(name)).filter(|path| path.is_file()))
        .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "D"))
}

#[test]
fn without_a_configuration_the_preset_holds_and_its_activation_is_reported() {
    let (config, notes) = settle(768, None, &preset()).unwrap();
    assert_eq!(config.vision, TowerConfig { activation: Activation::QuickGelu, heads: 12, norm_eps: 1e-5 });
    assert_eq!(config.text.unwrap().heads, 8);
    assert_eq!((config.pool, config.resolution), (Pool::Token, 224));
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("quick_gelu, as preset states"), "{}", notes[0]);
    let of_user = Stated { activation: by(Activation::Gelu, true), ..preset() };
    let (config, notes) = settle(768, None, &of_user).unwrap();
    assert_eq!((config.vision.activation, notes), (Activation::Gelu, vec![]));
}

#[test]
fn an_activation_that_nobody_states_is_refused_with_the_choices() {
    let error = settle(768, None, &Stated { activation: StatedValue::default(), ..preset() }).unwrap_err();
    assert!(error.contains("`model.activation` to gelu, quick_gelu or gelu_tanh"), "{error}");
}

#[test]
fn the_configuration_beside_the_weights_comes_before_the_preset_but_not_against_the_user() {
    let beside = read(&[("config.json", r#"{"model_type": "clip", "vision_config": {"hidden_act": "gelu", "patch_size": 16}, "text_config": {"hidden_act": "gelu"}}"#)]).unwrap();
    let (config, notes) = settle(768, beside.as_ref(), &preset()).unwrap();
    assert_eq!(
        (config.vision.activation, config.text.unwrap().activation),
        (Activation::Gelu, Activation::Gelu)
    );
    assert!(
        notes.iter().any(|note| note.contains("gelu, as") && note.contains("not quick_gelu of preset")),
        "{notes:?}"
    );
    let against = Stated { activation: by(Activation::QuickGelu, true), ..preset() };
    let error = settle(768, beside.as_ref(), &against).unwrap_err();
    assert!(error.contains("`model.activation = quick_gelu` (--set) contradicts"), "{error}");
    let pixels = Stated { pixels: by(Pixels { mean: [0.1; 3], std: [0.2; 3] }, true), ..preset() };
    assert_eq!(settle(768, beside.as_ref(), &pixels).unwrap().0.pixels.mean, [0.1; 3]);
}

#[test]
fn heads_of_wide_towers_are_asked_for() {
    let any_width = Stated { width: StatedValue::default(), ..preset() };
    let error = settle(1280, None, &any_width).unwrap_err();
    assert!(
        error.contains("16 (of 80)") && error.contains("20 (of 64)") && error.contains("`model.heads`"),
        "{error}"
    );
    let heads = |heads| settle(1280, None, &Stated { heads: by(heads, true), ..any_width.clone() });
    assert_eq!(heads(16).unwrap().0.vision.heads, 16);
    assert!(heads(7).unwrap_err().contains("7 attention heads, which do not divide the width 1280"));
}

#[test]
fn a_file_of_another_shape_than_the_preset_is_refused() {
    for (stated, key) in [
        (Stated { patch: by(32, false), ..preset() }, "patch"),
        (Stated { width: by(1024, false), ..preset() }, "width"),
        (Stated { layers: by(24, false), ..preset() }, "layers"),
    ] {
        let error = settle(768, None, &stated).unwrap_err();
        assert!(error.contains(&format!("set `model.{key}=")) && error.contains("preset states"), "{error}");
        // Another resolution means another model of the family; its patches are still the preset's.
        let resized = settle(768, None, &Stated { resolution: by(384, true), ..stated });
        if key == "patch" {
            assert!(resized.unwrap_err().contains("set `model.patch="));
        } else {
            let (_, notes) = resized.unwrap();
            assert!(notes.iter().any(|note| note.contains("taken as another model")), "{notes:?}");
        }
    }
}

#[test]
fn hugging_face_leaves_out_what_is_the_default() {
    let clip = read(&[(
        "config.json",
        r#"{"model_type": "clip", "vision_config": {}, "text_config": {"num_attention_heads": 12}}"#,
    )]);
    let clip = clip.unwrap().unwrap();
    let words = |activation, heads, norm_eps| TowerWords {
        activation: Some(activation),
        heads: Some(heads),
        norm_eps: Some(norm_eps),
    };
    assert_eq!(
        (clip.vision, clip.text),
        (words(Activation::QuickGelu, 12, 1e-5), words(Activation::QuickGelu, 12, 1e-5))
    );
    assert_eq!((clip.width, clip.patch, clip.resolution), (None, None, None));
    let large = r#"{"model_type": "clip_vision_model", "hidden_size": 1280, "num_attention_heads": 16, "hidden_act": "gelu", "image_size": 336}"#;
    let large = read(&[("config.json", large)]).unwrap().unwrap();
    assert_eq!((large.vision, large.resolution), (words(Activation::Gelu, 16, 1e-5), Some(336)));
    let preprocessor = r#"{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}"#;
    let vit =
        read(&[("config.json", r#"{"model_type": "vit"}"#), ("preprocessor_config.json", preprocessor)]);
    let vit = vit.unwrap().unwrap();
    assert_eq!(vit.vision, words(Activation::Gelu, 12, 1e-12));
    assert_eq!(vit.pixels.unwrap().0, Pixels { mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] });
}

#[test]
fn open_clip_has_plain_gelu_unless_it_says_quick() {
    let text = |model: &str| {
        format!(r#"{{"model_cfg": {{"embed_dim": 512, {model}, "text_cfg": {{"heads": 8}}}}}}"#)
    };
    let parse = |model: &str| read(&[("open_clip_config.json", &text(model))]);
    let plain = parse(r#""vision_cfg": {"width": 1280, "head_width": 80}"#).unwrap().unwrap();
    assert_eq!((plain.vision.activation, plain.vision.heads), (Some(Activation::Gelu), Some(16)));
    let quick = parse(r#""quick_gelu": true, "vision_cfg": {"pool_type": "avg"}"#).unwrap().unwrap();
    assert_eq!((quick.vision.activation, quick.pool), (Some(Activation::QuickGelu), Some(Pool::Average)));
    for refused in
        [r#"{"timm_model_name": "vit_x"}"#, r#"{"final_ln_after_pool": true}"#, r#"{"pool_type": "none"}"#]
    {
        let error = parse(&format!(r#""vision_cfg": {refused}"#)).unwrap_err();
        assert!(error.contains("not supported"), "{error}");
    }
}

#[test]
fn timm_says_it_by_the_architecture_and_by_arguments() {
    let parse = |text: &str| read(&[("config.json", text)]).unwrap().unwrap();
    let huge = parse(
        r#"{"architecture": "vit_huge_patch14_224", "global_pool": "token", "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#,
    );
    assert_eq!((huge.vision.heads, huge.vision.norm_eps, huge.width), (Some(16), Some(1e-6), Some(1280)));
    assert_eq!((huge.pool, huge.resolution), (Some(Pool::Token), Some(224)));
    let clip = parse(r#"{"architecture": "vit_base_patch16_clip_quickgelu_224", "pretrained_cfg": {}}"#);
    assert_eq!((clip.vision.activation, clip.vision.norm_eps), (Some(Activation::QuickGelu), Some(1e-5)));
    let small = parse(
        r#"{"architecture": "vit_base_patch16_224", "global_pool": "avg", "model_args": {"embed_dim": 128, "num_heads": 4, "act_layer": "quick_gelu", "img_size": 64}}"#,
    );
    assert_eq!((small.vision.heads, small.vision.activation), (Some(4), Some(Activation::QuickGelu)));
    assert_eq!((small.pool, small.resolution, small.width), (Some(Pool::Average), Some(64), Some(128)));
}

#[test]
fn dinov2_and_siglip_are_described_by_each_library() {
    let parse = |name: &str, text: &str| read(&[(name, text)]).unwrap().unwrap();
    let words = |activation, heads| TowerWords {
        activation: Some(activation),
        heads: Some(heads),
        norm_eps: Some(1e-6),
    };
    for kind in ["dinov2", "dinov2_with_registers"] {
        let text = format!(r#"{{"model_type": "{kind}", "num_attention_heads": 6, "image_size": 518}}"#);
        let beside = parse("config.json", &text);
        assert_eq!((beside.vision, beside.resolution), (words(Activation::Gelu, 6), Some(518)));
    }
    let both =
        parse("config.json", r#"{"model_type": "siglip", "vision_config": {"num_attention_heads": 16}}"#);
    assert_eq!(both.vision, words(Activation::GeluTanh, 16));
    let alone = parse("config.json", r#"{"model_type": "siglip_vision_model", "hidden_size": 768}"#);
    assert_eq!((alone.vision, alone.width), (words(Activation::GeluTanh, 12), Some(768)));
    // timm has exact GELU for most SigLIP towers, and says by the name which have not.
    for (name, activation, heads) in [
        ("vit_base_patch16_siglip_224", Activation::Gelu, 12),
        ("vit_so400m_patch14_siglip_384", Activation::Gelu, 16),
        ("vit_so400m_patch16_siglip_256", Activation::GeluTanh, 16),
        ("vit_giantopt_patch16_siglip_384", Activation::GeluTanh, 16),
    ] {
        let timm = parse("config.json", &format!(r#"{{"architecture": "{name}", "global_pool": "map"}}"#));
        assert_eq!((timm.vision, timm.pool), (words(activation, heads), Some(Pool::Attention)), "{name}");
        let vision = format!(
            r#"{{"timm_model_name": "{name}", "timm_pool": "map", "timm_proj": "none", "image_size": 224}}"#
        );
        let text =
            format!(r#"{{"model_cfg": {{"vision_cfg": {vision}, "text_cfg": {{"pool_type": "last"}}}}}}"#);
        let open_clip = parse("open_clip_config.json", &text);
        assert_eq!((open_clip.vision, open_clip.resolution), (timm.vision, Some(224)), "{name}");
    }
    let giant = read(&[("config.json", r#"{"model_type": "dinov2", "use_swiglu_ffn": true}"#)]);
    assert!(giant.unwrap_err().contains("`use_swiglu_ffn` is not supported"));
}

#[test]
fn a_configuration_of_another_model_and_one_that_is_broken_are_refused() {
    let beside =
        read(&[("config.json", r#"{"model_type": "clip", "vision_config": {"hidden_size": 1024}}"#)])
            .unwrap();
    let error = settle(768, beside.as_ref(), &preset()).unwrap_err();
    assert!(
        error.contains("describes another model") && error.contains("width 1024, in the weights 768"),
        "{error}"
    );
    assert!(read(&[("config.json", "{")]).unwrap_err().contains("D/config.json lies beside the weights"));
    assert_eq!(read(&[("config.json", r#"{"other": 1}"#)]).unwrap(), None);
    let relu = read(&[("config.json", r#"{"model_type": "clip", "vision_config": {"hidden_act": "relu"}}"#)]);
    assert!(relu.unwrap_err().contains("the activation `relu` is not supported"));
    let quick = r#"{"model_cfg": {"quick_gelu": true, "vision_cfg": {}, "text_cfg": {}}}"#;
    let plain = r#"{"model_type": "clip", "vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}}"#;
    let error = read(&[("open_clip_config.json", quick), ("config.json", plain)]).unwrap_err();
    assert!(error.contains("state different things") && error.contains("activation"), "{error}");
    assert!(SidecarConfig::read(|_| None).unwrap().is_none());
}
