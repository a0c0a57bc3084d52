//! A record's bytes, checked: what comes off the ring is data from another world, even if we wrote both ends.

use injector_common::record::{
    self, CONTEXT_HARDIRQ, CONTEXT_NMI, CONTEXT_SOFTIRQ, CONTEXT_TASK, CONTEXT_UNKNOWN, Failure, NO_SYSCALL,
    OUTCOME_ENOMEM, OUTCOME_ERROR, OUTCOME_MASKED, OUTCOME_OUTSIDE, OUTCOME_SIGNAL, SiteRecord,
};
use syscalls::Sysno;

use super::model::{Context, Outcome, OutcomeKind};
use crate::{plan::Hook, session::Hooks};

/// A record that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// It has not the length of one.
    #[error("a record of {0} bytes instead of {expected}", expected = size_of::<Failure>())]
    Length(usize),
    /// There is no such hook.
    #[error("a record of hook {0}, which does not exist")]
    Hook(u32),
    /// There is no such context.
    #[error("a record of context {0}, which does not exist")]
    Context(u32),
    /// There is no such outcome.
    #[error("a record of outcome {0}, which does not exist")]
    Outcome(u32),
}

/// What comes off the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A call was failed.
    Failure(Decoded),
    /// And that was the first time at this site.
    NewSite(Box<SiteRecord>),
    /// What came of failures.
    Outcome(Outcome),
}

/// A record with what needs checking checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The hook.
    pub hook: Hook,
    /// The context.
    pub context: Context,
    /// Name of the task; what isn't UTF-8 is replaced.
    pub comm: String,
    /// Name of the slab cache; none for the page hook.
    pub cache: Option<String>,
    /// The rest.
    pub record: Failure,
}

/// Decodes a record of a rule with these hooks.
///
/// # Errors
/// When it isn't one.
pub fn decode(bytes: &[u8], hooks: &Hooks) -> Result<Record, DecodeError> {
    if bytes.len() == size_of::<SiteRecord>() {
        // SAFETY: as many bytes as the structure has, which holds integers only; any alignment will do.
        let site = unsafe { bytes.as_ptr().cast::<SiteRecord>().read_unaligned() };
        hooks.get(site.hook).ok_or(DecodeError::Hook(site.hook))?;
        return Ok(Record::NewSite(Box::new(site)));
    }
    if bytes.len() == size_of::<record::OutcomeRecord>() {
        // SAFETY: as above.
        let outcome = unsafe { bytes.as_ptr().cast::<record::OutcomeRecord>().read_unaligned() };
        return self::outcome(&outcome);
    }
    failure(bytes, hooks).map(Record::Failure)
}

fn outcome(record: &record::OutcomeRecord) -> Result<Record, DecodeError> {
    let is = match record.kind {
        OUTCOME_ENOMEM => OutcomeKind::Enomem,
        OUTCOME_ERROR => OutcomeKind::Error,
        OUTCOME_MASKED => OutcomeKind::Masked,
        OUTCOME_SIGNAL => OutcomeKind::Signal,
        OUTCOME_OUTSIDE => OutcomeKind::Outside,
        kind => return Err(DecodeError::Outcome(kind)),
    };
    let number = (record.syscall != NO_SYSCALL).then_some(record.syscall);
    let outcome = Outcome {
        time_ns: record.time,
        site: record.site,
        pid: record.pid,
        tid: record.tid,
        comm: text(&record.comm),
        syscall: number.map(|number| match Sysno::new(number as usize) {
            Some(sysno) => sysno.name().into(),
            None => format!("call {number}").into(),
        }),
        result: matches!(is, OutcomeKind::Enomem | OutcomeKind::Error | OutcomeKind::Masked).then_some(record.result),
        is,
        count: record.count,
    };
    Ok(Record::Outcome(outcome))
}

fn failure(bytes: &[u8], hooks: &Hooks) -> Result<Decoded, DecodeError> {
    if bytes.len() != size_of::<Failure>() {
        return Err(DecodeError::Length(bytes.len()));
    }
    // SAFETY: as many bytes as the structure has, which holds integers only; any alignment will do.
    let record = unsafe { bytes.as_ptr().cast::<Failure>().read_unaligned() };
    let hook = hooks.get(record.hook).ok_or(DecodeError::Hook(record.hook))?;
    let context = context(record.context).ok_or(DecodeError::Context(record.context))?;
    Ok(Decoded {
        hook,
        context,
        comm: text(&record.comm),
        cache: (record.cache[0] != 0).then(|| text(&record.cache)),
        record,
    })
}

/// The context with this number.
#[must_use]
pub fn context(number: u32) -> Option<Context> {
    match number {
        CONTEXT_TASK => Some(Context::Task),
        CONTEXT_SOFTIRQ => Some(Context::Softirq),
        CONTEXT_HARDIRQ => Some(Context::Hardirq),
        CONTEXT_NMI => Some(Context::Nmi),
        CONTEXT_UNKNOWN => Some(Context::Unknown),
        _ => None,
    }
}

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_common::hooks;
    use proptest::prelude::*;

    fn bytes(record: &Failure) -> Vec<u8> {
        // SAFETY: a structure of integers without padding.
        unsafe { std::slice::from_raw_parts((&raw const *record).cast::<u8>(), size_of::<Failure>()) }.to_vec()
    }

    #[test]
    fn a_record_comes_back() {
        let mut record = Failure {
            hook: hooks::SLAB,
            gfp: 0xcc0,
            size: 256,
            pid: 7,
            context: CONTEXT_SOFTIRQ,
            ..Failure::default()
        };
        record.comm[..5].copy_from_slice(b"mount");
        record.cache[..11].copy_from_slice(b"kmalloc-256");
        let decoded = failure(&bytes(&record), &Hooks::default()).unwrap();
        assert_eq!((decoded.hook, decoded.context), (Hook::Slab, Context::Softirq));
        assert_eq!((decoded.comm.as_str(), decoded.cache.as_deref()), ("mount", Some("kmalloc-256")));
        assert_eq!(decoded.record, record);
    }

    #[test]
    fn a_comm_without_end_is_cut() {
        let record = Failure { hook: hooks::PAGE, comm: [b'x'; 16], ..Failure::default() };
        let decoded = failure(&bytes(&record), &Hooks::default()).unwrap();
        assert_eq!((decoded.comm.len(), decoded.cache), (16, None));
    }

    #[test]
    fn a_new_site_comes_back() {
        let site = SiteRecord { signature: 5, count: 1, frames_len: 2, ..SiteRecord::ZERO };
        // SAFETY: a structure of integers without padding.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const site).cast::<u8>(), size_of::<SiteRecord>()) };
        assert_eq!(decode(bytes, &Hooks::default()), Ok(Record::NewSite(Box::new(site))));
    }

    #[test]
    fn wrong_records_are_refused() {
        assert_eq!(decode(&[0; 3], &Hooks::default()), Err(DecodeError::Length(3)));
        assert_eq!(
            decode(&bytes(&Failure { hook: 9, ..Failure::default() }), &Hooks::default()),
            Err(DecodeError::Hook(9))
        );
        assert_eq!(
            decode(&bytes(&Failure { context: 9, ..Failure::default() }), &Hooks::default()),
            Err(DecodeError::Context(9))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&bytes, &Hooks::default());
        }

        #[test]
        fn no_record_panics(bytes in proptest::collection::vec(any::<u8>(), size_of::<Failure>())) {
            let _ = decode(&bytes, &Hooks::default());
        }
    }
}
