use super::*;
use crate::kernel::gfp::GfpBits;
use proptest::prelude::*;

fn value(text: &str) -> GfpValue {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    match text.parse::<GfpValue>() {
        Ok(value) => panic!("{text} accepted: {value}"),
        Err(error) => error.to_string(),
    }
}

/// A kernel with the bits of 6.1, as far as the tests need them.
fn bits() -> GfpBits {
    let flags = [
        ("HIGHMEM", 0x2),
        ("MOVABLE", 0x8),
        ("HIGH", 0x20),
        ("IO", 0x40),
        ("FS", 0x80),
        ("ZERO", 0x100),
        ("DIRECT_RECLAIM", 0x400),
        ("KSWAPD_RECLAIM", 0x800),
        ("NOWARN", 0x2000),
        ("NOFAIL", 0x8000),
        ("HARDWALL", 0x10_0000),
    ];
    let entries: Vec<String> = flags.iter().map(|(name, bit)| format!("{{{bit:#x}u, \"__GFP_{name}\"}}")).collect();
    GfpBits::from_format(&format!("__print_flags(REC->gfp_flags, \"|\", {})", entries.join(", ")))
}

fn matches(filter: &str, flags: u32) -> bool {
    let alternative = value(filter).resolve(&bits()).unwrap();
    let holds = |test: &GfpTest| flags & test.mask == test.value;
    holds(&alternative.test) && !alternative.negated[..alternative.negated_len as usize].iter().any(holds)
}

const KERNEL: u32 = 0xcc0;
const NOFS: u32 = 0xc40;
const NOIO: u32 = 0xc00;
const ATOMIC: u32 = 0x820;
const NOWAIT: u32 = 0x800;
const USER: u32 = 0x10_0cc0;
const HIGHUSER: u32 = 0x10_0cc2;
const HIGHUSER_MOVABLE: u32 = 0x10_0cca;
const ALL: [u32; 8] = [KERNEL, NOFS, NOIO, ATOMIC, NOWAIT, USER, HIGHUSER, HIGHUSER_MOVABLE];

#[test]
fn each_combination_matches_its_own_flags_only() {
    for (name, own) in [
        ("KERNEL", &[KERNEL][..]),
        ("NOFS", &[NOFS]),
        ("NOIO", &[NOIO]),
        ("ATOMIC", &[ATOMIC]),
        ("NOWAIT", &[NOWAIT]),
        ("USER", &[USER]),
        ("HIGHUSER", &[HIGHUSER, HIGHUSER_MOVABLE]),
    ] {
        for flags in ALL {
            for extra in [0, 0x100, 0x2000, 0x2100] {
                assert_eq!(matches(name, flags | extra), own.contains(&flags), "{name} {flags:#x} {extra:#x}");
                assert_eq!(matches(&format!("!{name}"), flags | extra), !own.contains(&flags), "!{name} {flags:#x}");
            }
        }
    }
}

#[test]
fn terms_are_joined() {
    assert!(matches("NOFS,ZERO", NOFS | 0x100));
    assert!(!matches("NOFS,ZERO", NOFS));
    assert!(matches("NOFS | !ZERO", NOFS));
    assert!(!matches("NOFS+!ZERO", NOFS | 0x100));
    assert!(matches("!NOFS,!KERNEL", NOIO));
    assert!(!matches("!NOFS,!KERNEL", KERNEL));
    assert!(matches("!RECLAIM", ATOMIC));
    assert!(!matches("!RECLAIM", KERNEL));
    assert!(matches("__GFP_RECLAIM", NOIO));
    // A flag that this kernel does not have is always clear.
    assert!(matches("!ACCOUNT", NOFS));
}

#[test]
fn names() {
    assert_eq!(value("GFP_NOFS"), value("nofs"));
    assert_eq!(value("__GFP_ZERO"), value("ZERO"));
    assert_eq!(value("ATOMIC"), value("GFP_ATOMIC"));
    assert_ne!(value("ATOMIC"), value("__GFP_ATOMIC"));
    assert_eq!(value("nofs + !__gfp_nowarn,NOFS").to_string(), "GFP_NOFS,!__GFP_NOWARN");
    assert_eq!(value("RECLAIM").to_string(), "__GFP_RECLAIM");
}

#[test]
fn unknown_names() {
    assert_eq!(error("NOFSS"), "there is no GFP flag `NOFSS`; did you mean NOFS, NOFAIL?");
    assert_eq!(error("__GFP_ZER"), "there is no GFP flag `__GFP_ZER`; did you mean ZERO, ZEROTAGS?");
    assert_eq!(
        error("xyzzy"),
        "there is no GFP flag `xyzzy`; there are NOFS, NOIO, KERNEL, ATOMIC, NOWAIT, USER, HIGHUSER and single flags \
         such as ZERO, NOWARN, DIRECT_RECLAIM"
    );
    assert!(error("GFP_ZERO").starts_with("there is no GFP flag `GFP_ZERO`; did you mean ZERO"));
}

#[test]
fn what_can_never_match() {
    assert_eq!(
        error("NOFS,KERNEL"),
        "GFP value `NOFS,KERNEL` can never match: __GFP_FS would have to be set and clear"
    );
    assert_eq!(
        error("ZERO,!ZERO"),
        "GFP value `ZERO,!ZERO` can never match: __GFP_ZERO would have to be set and clear"
    );
    assert_eq!(
        error("NOFS,!NOFS"),
        "GFP value `NOFS,!NOFS` can never match: whatever its other parts accept, `!GFP_NOFS` refuses"
    );
    assert!(error("HIGHUSER,!__GFP_RECLAIM,__GFP_KSWAPD_RECLAIM").contains("can never match"));
    assert!(error("NOFAIL").contains("can never fail anything"));
    assert!(error("!NOFS,!NOIO,!KERNEL,!USER,!ATOMIC").contains("at most 4"));
    for empty in ["", ",", "NOFS,", "!", "NOFS,!"] {
        assert!(error(empty).contains("empty part"), "{empty}");
    }
}

#[test]
fn too_many_values() {
    let values = vec![value("NOFS"); MAX_GFP_ALTERNATIVES + 1];
    assert_eq!(GfpFilter::any_of(values), Err(GfpError::TooManyValues(MAX_GFP_ALTERNATIVES + 1)));
}

#[test]
fn a_flag_that_the_kernel_lacks() {
    let filter = GfpFilter::any_of(vec![value("SKIP_KASAN")]).unwrap();
    let message = filter.resolve(&bits()).unwrap_err().to_string();
    assert!(message.starts_with("this kernel has no __GFP_SKIP_KASAN (GFP names from tracefs"), "{message}");
}

fn any_value() -> impl Strategy<Value = String> {
    let names: Vec<&str> = COMPOSITES.iter().map(|composite| composite.name).chain(FLAGS).collect();
    let term = (any::<bool>(), prop::sample::select(names))
        .prop_map(|(negated, name)| format!("{}{name}", if negated { "!" } else { "" }));
    prop::collection::vec(term, 1..4).prop_map(|terms| terms.join(","))
}

proptest! {
    #[test]
    fn round_trip(text in any_value()) {
        if let Ok(value) = text.parse::<GfpValue>() {
            prop_assert_eq!(value.to_string().parse::<GfpValue>().unwrap(), value);
        }
    }

    /// What is accepted can match something: no filter that silently never fires.
    #[test]
    fn what_is_accepted_can_match(text in any_value()) {
        if let Ok(value) = text.parse::<GfpValue>()
            && let Ok(alternative) = value.resolve(&bits())
        {
            let known: Vec<u32> = bits().flags().map(|(_, bit)| bit).collect();
            let holds = |flags: u32, test: &GfpTest| flags & test.mask == test.value;
            let some = (0..1u32 << known.len()).any(|choice| {
                let flags = known.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1).map(|(_, bit)| bit).sum();
                holds(flags, &alternative.test)
                    && !alternative.negated[..alternative.negated_len as usize].iter().any(|test| holds(flags, test))
            });
            prop_assert!(some);
        }
    }

    #[test]
    fn never_panics(text in "[A-Z_!,|+ ]{0,30}|\\PC*") {
        let _ = text.parse::<GfpValue>();
    }
}
