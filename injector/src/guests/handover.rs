//! A plan on its way into a guest: a file that the controller writes and `injector execute` reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{plan::sweep::SweepPlan, sweep::replay::ReplayPlan};

/// The version of the file's form. It changes when an option changes its meaning; a new option needs no new version, since an
/// injector refuses options that it does not know.
pub const SCHEMA: u32 = 1;

/// What the injector in a guest shall do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handover {
    /// A sweep.
    Sweep(Box<SweepPlan>),
    /// A replay of a finding.
    Replay(Box<ReplayPlan>),
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    plan: Handover,
}

/// The schema alone, which is read first.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// Why a plan file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It cannot be read.
    #[error("plan file {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Another version of the injector wrote it.
    #[error(
        "plan file {path} has schema {found}, and this injector reads schema {SCHEMA}: use the same injector on the host and in \
         the guest",
        path = .path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// It is no plan.
    #[error("plan file {path}: {source}", path = .path.display())]
    NoPlan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Handover {
    /// The file's content.
    ///
    /// # Errors
    /// A path in the plan is not UTF-8.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&File { schema: SCHEMA, plan: self.clone() })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is missing, no plan, or of another version of the injector.
    pub fn read(path: &Path) -> Result<Self, HandoverError> {
        let path = path.to_owned();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(HandoverError::Unreadable { path, source }),
        };
        match serde_json::from_slice::<Head>(&bytes) {
            Ok(Head { schema }) if schema != SCHEMA => return Err(HandoverError::Schema { path, found: schema }),
            _ => {}
        }
        match serde_json::from_slice::<File>(&bytes) {
            Ok(File { schema: _, plan }) => Ok(plan),
            Err(source) => Err(HandoverError::NoPlan { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, time::Duration};

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{
        journal::Signature,
        plan::{
            Backend, StackPattern,
            sweep::{Journal, Leaks, Shard},
        },
    };

    fn patterns() -> impl Strategy<Value = Vec<StackPattern>> {
        let pattern = prop_oneof!["[a-z_]{1,12}\\*?", "\\[[a-z]{1,8}\\]"];
        vec(pattern.prop_filter_map("no pattern", |text| text.parse().ok()), 0..3)
    }

    fn word() -> impl Strategy<Value = OsString> {
        prop_oneof![".*".prop_map(OsString::from), vec(any::<u8>(), 0..9).prop_map(OsString::from_vec)]
    }

    fn journal() -> impl Strategy<Value = Journal> {
        prop_oneof![
            Just(Journal::None),
            "[a-z/.]{1,9}".prop_map(|path| Journal::New(path.into())),
            "[a-z/.]{1,9}".prop_map(|path| Journal::Resume(path.into())),
            "[a-z/.]{1,9}".prop_map(|path| Journal::Port { so_far: path.into() }),
        ]
    }

    fn backend() -> impl Strategy<Value = Backend> {
        proptest::sample::select(&Backend::ALL[..])
    }

    fn duration() -> impl Strategy<Value = Duration> {
        (any::<u32>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds.into(), nanos))
    }

    prop_compose! {
        fn sweep()(
            (command, setup, cleanup) in (vec(word(), 0..4), option::of(".*"), option::of(".*")),
            (only, spared) in (patterns(), patterns()),
            (depth, hit, persistent) in (any::<u32>(), any::<u32>(), option::of(any::<u32>())),
            shard in option::of((any::<u32>(), any::<u32>()).prop_map(|(index, count)| Shard { index, count })),
            (budget, hang) in (option::of(duration()), duration()),
            (kthreads, expect_success, keep_going, kmsg, failing) in any::<(bool, bool, bool, bool, bool)>(),
            (backend, journal) in (backend(), journal()),
            guests in vec(".*", 0..3),
            leaks in prop_oneof![Just(Leaks::Auto), Just(Leaks::Slab), Just(Leaks::Off)],
        ) -> SweepPlan {
            SweepPlan {
                command, workload: setup.clone(), guests, setup, cleanup, only, spared, depth, hit, persistent, kthreads, shard, budget, hang, expect_success,
                keep_going, backend, leaks, journal, kmsg, failing,
            }
        }
    }

    prop_compose! {
        fn replay()(
            (journal, finding) in ("[a-z/.]{1,9}", ".*"),
            (tries, sites) in (any::<u32>(), vec(any::<u64>().prop_map(Signature), 0..3)),
            (hang, backend, spared) in (duration(), backend(), patterns()),
            (keep_going, kmsg, port) in any::<(bool, bool, bool)>(),
        ) -> ReplayPlan {
            ReplayPlan { journal: journal.into(), finding, tries, sites, hang, keep_going, kmsg, backend, spared, port }
        }
    }

    fn read(content: &[u8]) -> Result<Handover, HandoverError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        Handover::read(file.path())
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            plan in prop_oneof![
                sweep().prop_map(|plan| Handover::Sweep(Box::new(plan))),
                replay().prop_map(|plan| Handover::Replay(Box::new(plan))),
            ]
        ) {
            prop_assert_eq!(read(&plan.encode().unwrap()).unwrap(), plan);
        }
    }

    #[test]
    fn the_file_is_readable() {
        let plan = SweepPlan::new(vec!["sh".into()], Journal::Port { so_far: "/j".into() });
        let plan = SweepPlan { only: vec!["nfs*".parse().unwrap()], ..plan };
        let text = String::from_utf8(Handover::Sweep(Box::new(plan)).encode().unwrap()).unwrap();
        let start = r#"{"schema":1,"plan":{"sweep":{"command":["sh"],"workload":null,"guests":[],"setup":null,"#;
        assert!(text.starts_with(start) && text.contains(r#","only":["nfs*"],"spared":[],"#), "{text}");
        assert!(text.contains(r#""journal":{"port":{"so_far":"/j"}}"#), "{text}");
    }

    #[test]
    fn another_version_is_named_before_its_plan_is_read() {
        let error = read(br#"{"schema":2,"plan":{"fly":{}}}"#).unwrap_err().to_string();
        assert!(error.contains("has schema 2") && error.contains("reads schema 1"), "{error}");
    }

    #[test]
    fn an_option_that_is_unknown_is_refused() {
        let plan = Handover::Sweep(Box::new(SweepPlan::new(Vec::new(), Journal::None)));
        let text = String::from_utf8(plan.encode().unwrap()).unwrap();
        let error = read(text.replace("\"depth\"", "\"width\"").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("unknown field `width`"), "{error}");
        assert!(matches!(read(b"{"), Err(HandoverError::NoPlan { .. })));
        assert!(matches!(Handover::read("/no/such/plan".as_ref()), Err(HandoverError::Unreadable { .. })));
    }
}
