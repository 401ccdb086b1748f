//! Hostile and plain programs, written byte by byte.

use super::*;
use crate::weights::dtype::DType;
use proptest::prelude::*;

/// `torch.float32` storage "7" of 6 elements seen as 2 x 3.
const TENSOR: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\x00\x00\x00storage\
    ctorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpuK\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89\
    ccollections\nOrderedDict\n)RtR.";

fn refusal(program: &[u8]) -> String {
    TorchPickle::parse(program, Allowed::Tensors).expect_err("the program is hostile").to_string()
}

fn with_protocol(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

#[test]
fn a_tensor_is_read() {
    let pickle = TorchPickle::parse(TENSOR, Allowed::Tensors).expect("a plain tensor");
    let TorchValue::Special(TorchObject::Tensor(tensor)) = pickle.value(pickle.root()) else {
        panic!("no tensor: {pickle:?}")
    };
    let storage = StorageRef { dtype: DType::F32, key: "7", elements: 6 };
    assert_eq!(**tensor, TensorRef { storage, offset: 0, shape: vec![2, 3], strides: vec![3, 1] });
}

#[test]
fn a_parameter_is_its_tensor() {
    let tensor = &TENSOR[2..TENSOR.len() - 1];
    let program =
        with_protocol(&[b"ctorch._utils\n_rebuild_parameter\n(".as_slice(), tensor, b"\x88NtR"].concat());
    let pickle = TorchPickle::parse(&program, Allowed::Tensors).expect("a parameter");
    assert!(matches!(pickle.value(pickle.root()), TorchValue::Special(TorchObject::Tensor(_))));
}

#[test]
fn integers_of_every_width_are_read() {
    let program =
        b"\x80\x04(J\xff\xff\xff\xffK\xffM\xff\xff\x8a\x00\x8a\x01\x80\x8a\x08\x01\0\0\0\0\0\0\x80t.";
    let pickle = TorchPickle::parse(program, Allowed::Tensors).expect("integers");
    let TorchValue::Tuple(items) = pickle.value(pickle.root()) else { panic!("no tuple") };
    let found: Vec<_> = items.iter().map(|&item| pickle.value(item).clone()).collect();
    assert_eq!(found, [-1, 255, 65535, 0, -128, i64::MIN + 1].map(TorchValue::Int));
}

#[test]
fn every_function_but_the_allowed_is_refused_by_name() {
    let names = [
        ("posix", "system"),
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch.hub", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("torch", "ComplexFloatStorage"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "OrderedDict.__class__"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("", ""),
    ];
    for (module, name) in names {
        let expected =
            format!("global `{module}.{name}` at byte 2 is not allowed in a checkpoint of tensors");
        let by_line = with_protocol(format!("c{module}\n{name}\n").as_bytes());
        assert!(refusal(&by_line).starts_with(&expected));

        let mut by_stack = Vec::new();
        for text in [module, name] {
            by_stack.extend([0x8c, text.len() as u8]);
            by_stack.extend(text.as_bytes());
        }
        by_stack.push(0x93);
        let message = refusal(&with_protocol(&by_stack));
        assert!(message.starts_with(&format!("global `{module}.{name}` at byte ")), "{message}");
    }
}

/// A training script's own objects are known by name, and a `TorchScript` program's modules: what a call or
/// their state would do to them is left out.
#[test]
fn objects_beside_tensors_are_names_and_attributes_alone() {
    let parse = |body: &[u8]| {
        let program = with_protocol(body);
        let pickle = TorchPickle::parse(&program, Allowed::Objects).map_err(|error| error.to_string())?;
        Ok::<_, String>(format!("{:?}", pickle.value(pickle.root())))
    };
    assert_eq!(
        parse(b"cargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb"),
        Ok("Special(Object(Some(ObjectId(3))))".to_owned())
    );
    assert_eq!(parse(b"c__torch__.m\nVisual\n)\x81}b"), Ok("Special(Object(Some(ObjectId(3))))".to_owned()));
    let scalar = b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n)R)\x86R";
    assert_eq!(parse(scalar), Ok("Special(Object(None))".to_owned()));
    for (module, name) in
        [("posix", "system"), ("builtins", "eval"), ("torch.nn", "Linear"), ("__torch__x", "M")]
    {
        let message = parse(format!("c{module}\n{name}\n").as_bytes()).unwrap_err();
        assert!(
            message.starts_with(&format!("global `{module}.{name}` at byte 2 is not allowed")),
            "{message}"
        );
    }
    let message = parse(b"ccollections\nOrderedDict\n)\x81").unwrap_err();
    assert!(message.contains("not an allowed class"), "{message}");
    let strict = refusal(&with_protocol(b"cargparse\nNamespace\n"));
    assert!(strict.starts_with("global `argparse.Namespace`"), "{strict}");
}

#[test]
fn names_are_escaped_and_cut_in_messages() {
    let message = refusal(&with_protocol(format!("c\u{1b}[31m\n{}\n", "x".repeat(5000)).as_bytes()));
    assert!(message.contains(r"`\u{1b}[31m.xxx"), "{message}");
    assert!(message.contains("xxx...`"), "{message}");
    assert!(message.len() < 250, "{message}");
}

#[test]
fn instructions_that_make_objects_are_refused_by_name() {
    let cases: &[(&[u8], &str)] = &[
        (b"(S'ls'\niposix\nsystem\n", "STRING"),
        (b"(iposix\nsystem\n", "INST"),
        (b"(ccollections\nOrderedDict\no", "OBJ"),
        (b"ccollections\nOrderedDict\n)\x81", "NEWOBJ"),
        (b"ccollections\nOrderedDict\n)}\x92", "NEWOBJ_EX"),
        (b"\x82\x01", "EXT1"),
        (b"\x83\x01\x00", "EXT2"),
        (b"\x84\x01\x00\x00\x00", "EXT4"),
        (b"P12\n", "PERSID"),
        (b"I1\n", "INT"),
        (b"L99999999999L\n", "LONG"),
        (b"\x8b\xff\xff\xff\x7f", "LONG4"),
        (b"B\xff\xff\xff\xff", "BINBYTES"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "BINBYTES8"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "BINUNICODE8"),
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f", "BYTEARRAY8"),
        (b"\x97", "NEXT_BUFFER"),
        (b"K\x010", "POP"),
        (b"K\x012", "DUP"),
        (b"\xff", "unknown"),
    ];
    for (body, name) in cases {
        let message = refusal(&with_protocol(body));
        let expected = format!("opcode `{name}` (");
        assert!(message.starts_with(&expected), "{name}: {message}");
        assert!(message.ends_with("is not allowed in a checkpoint of tensors"), "{message}");
    }
}

#[test]
fn calls_need_an_allowed_function_and_its_arguments() {
    let dict = b"ccollections\nOrderedDict\n".as_slice();
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice();
    let storage_type = b"ctorch\nFloatStorage\n".as_slice();
    let cases: &[(&[&[u8]], &str)] = &[
        (&[b"X\x02\0\0\0ls)R"], "called that is not an allowed function"),
        (&[storage_type, b")R"], "called that is not an allowed function"),
        (&[dict, b"K\x01R"], "arguments of a call are not a tuple"),
        (&[dict, b"K\x01\x85R"], "made from arguments"),
        (&[rebuild, b")R"], "other than six or seven arguments"),
        (&[rebuild, b"(K\x01K\x01K\x01K\x01K\x01K\x01tR"], "no storage or no offset"),
        (&[dict, b")RK\x01b"], "BUILD is used on something"),
        (&[b"K\x01}b"], "BUILD is used on something"),
        (&[b"K\x01Q"], "persistent id is not a tuple"),
        (&[b")Q"], "not five fields"),
        (&[b"(X\x07\0\0\0storageK\x01K\x01K\x01K\x01tQ"], "does not describe a storage"),
        (&[b"K\x01K\x02\x93"], "name of a global is not text"),
    ];
    for (parts, expected) in cases {
        let message = refusal(&with_protocol(&parts.concat()));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn tensors_of_impossible_geometry_are_refused() {
    let text = String::from_utf8_lossy(TENSOR).into_owned();
    assert!(text.contains("cpu"), "the program is what it was");
    let replace = |from: &[u8], to: &[u8]| {
        let at = TENSOR.windows(from.len()).position(|part| part == from).expect("the part is there");
        [&TENSOR[..at], to, &TENSOR[at + from.len()..]].concat()
    };
    let negative = b"J\xff\xff\xff\xff".as_slice();
    let cases = [
        (replace(b"tQK\x00", &[b"tQ", negative].concat()), "offset is negative"),
        (replace(b"K\x02K\x03\x86", &[negative, b"K\x03\x86"].concat()), "size or stride is not a number"),
        (
            replace(b"K\x03K\x01\x86", &[b"K\x03", negative, b"\x86"].concat()),
            "size or stride is not a number",
        ),
        (replace(b"K\x03K\x01\x86", b"K\x03\x85"), "more sizes than strides"),
        (replace(b"K\x03K\x01\x86", b"K\x03"), "not a tuple"),
        (
            replace(b"K\x02K\x03\x86", b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t"),
            "more than 8 dimensions",
        ),
        (replace(b"cpuK\x06", &[b"cpu".as_slice(), negative].concat()), "does not describe a storage"),
    ];
    for (program, expected) in cases {
        let message = refusal(&program);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn lying_lengths_and_early_ends_are_refused() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "byte 0 needs 1 more bytes, 0 are left"),
        (b"\x80", "byte 1 needs 1"),
        (b"\x80\x02X\xff\xff\xff\xffab", "byte 7 needs 4294967295 more bytes, 2 are left"),
        (b"\x80\x02\x8c\x05ab", "byte 4 needs 5 more bytes, 2 are left"),
        (b"\x80\x02\x8a\x09123456789.", "more than 64 bits"),
        (b"\x80\x02\x8a\x08123", "byte 4 needs 8"),
        (b"\x80\x02cposix", "ends early"),
        (b"\x80\x02cposix\nsystem", "ends early"),
        (b"\x80\x04\x95\x00\x00", "needs 8"),
        (b"\x80\x02K\x01", "byte 4 needs 1"),
        (b"\x80\x02K\x01.K", "bytes follow the end"),
        (b"\x80\x02K\x01K\x01.", "left on the stack"),
        (b"\x80\x02(K\x01.", "left on the stack"),
        (b"\x80\x02.", "the stack is empty"),
        (b"\x80\x09.", "the protocol is not"),
    ];
    for (program, expected) in cases {
        let message = refusal(program);
        assert!(message.contains(expected), "{program:?}: {message}");
    }
}

#[test]
fn the_stack_cannot_be_undercut() {
    for body in [
        b"\x85".as_slice(),
        b"K\x01\x86",
        b"K\x01(\x85",
        b"s",
        b"}K\x01s",
        b"(q\x01",
        b"(Q",
        b"R",
        b"b",
        b"a",
    ] {
        let message = refusal(&with_protocol(body));
        assert!(message.contains("the stack is empty"), "{body:?}: {message}");
    }
    for body in [b"t".as_slice(), b"u", b"e"] {
        assert!(refusal(&with_protocol(body)).contains("a mark is missing"));
    }
    for body in [b"h\x01".as_slice(), b"j\x01\0\0\0"] {
        assert!(refusal(&with_protocol(body)).contains("never remembered"));
    }
    for (body, expected) in [
        (b"}(K\x01u".as_slice(), "a key has no value"),
        (b"]K\x01K\x02s", "not a dictionary"),
        (b"}K\x01a", "not a list"),
        (b")(K\x01e", "not a list"),
    ] {
        assert!(refusal(&with_protocol(body)).contains(expected), "{body:?}");
    }
}

#[test]
fn deep_nesting_needs_no_recursion() {
    let depth = 250_000;
    let body = [vec![b')'], vec![0x85; depth]].concat();
    let pickle = with_protocol(&body);
    assert!(TorchPickle::parse(&pickle, Allowed::Tensors).is_ok());
}

#[test]
fn a_memo_bomb_stays_small() {
    // Each line holds the line before ten times: written out, 10^50 items.
    let mut body = b"]q\x00".to_vec();
    for line in 0..50_u8 {
        body.extend([b']', b'(']);
        body.extend([b'h', line].repeat(10));
        body.extend([b'e', b'q', line + 1]);
    }
    body.push(b't');
    let program = with_protocol(&[b"(".as_slice(), &body].concat());
    let pickle = TorchPickle::parse(&program, Allowed::Tensors).expect("a program of shared lists");
    assert!(pickle.objects().iter().count() < 100);
}

#[test]
fn too_much_is_refused() {
    let many = with_protocol(&[b"(".as_slice(), &vec![b'N'; MAX_OBJECTS + 1], b"t"].concat());
    assert_eq!(refusal(&many), "the pickle makes more than 300000 objects");
    let long = vec![b'('; MAX_PICKLE_BYTES + 1];
    assert_eq!(refusal(&long), "the pickle has 2097153 bytes, more than the limit of 2097152");
    let marks = vec![b'('; MAX_PICKLE_BYTES];
    assert!(refusal(&marks).contains("ends early"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = TorchPickle::parse(&bytes, Allowed::Tensors);
        let _ = TorchPickle::parse(&bytes, Allowed::Objects);
    }

    /// Programs of allowed instructions reach deeper than random bytes.
    #[test]
    fn any_allowed_instructions_are_survived(
        steps in proptest::collection::vec(0_usize..32, 0..200), argument in any::<u8>(),
    ) {
        const STEPS: [&[u8]; 27] = [
            b"(", b")", b"]", b"}", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"N", b"\x88",
            b"h\x00", b"q\x00", b"\x94", b"R", b"b", b"Q", b"\x93", b"X\x07\0\0\0storage",
            b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nHalfStorage\n", b"c__torch__\nM\n", b"\x81",
        ];
        let mut program = vec![0x80, 2];
        for step in steps {
            match STEPS.get(step) {
                Some(bytes) => program.extend_from_slice(bytes),
                None => program.extend([b'K', argument]),
            }
        }
        program.push(b'.');
        let _ = TorchPickle::parse(&program, Allowed::Tensors);
        let _ = TorchPickle::parse(&program, Allowed::Objects);
    }

    #[test]
    fn flipped_bytes_are_survived(at in 0..TENSOR.len(), byte in any::<u8>(), cut in 0..TENSOR.len()) {
        let mut program = TENSOR.to_vec();
        program[at] = byte;
        let _ = TorchPickle::parse(&program, Allowed::Tensors);
        let _ = TorchPickle::parse(&program[..cut], Allowed::Tensors);
        prop_assert!(TorchPickle::parse(&TENSOR[..cut], Allowed::Tensors).is_err());
    }
}
