//! Constructors for [`Fault`], the failure that one module tells another.

use crate::v1::Fault;

impl Fault {
    /// A fault with a stable kebab-case `code` and a `title` for people.
    pub fn new(code: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            title: title.into(),
            ..Self::default()
        }
    }

    /// Adds what happened, in a sentence without personal data.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds what the person can do about it.
    #[must_use]
    pub fn with_what_to_do(mut self, what_to_do: impl Into<String>) -> Self {
        self.what_to_do = what_to_do.into();
        self
    }

    /// `not-found`: there is no such thing, or it belongs to somebody else.
    pub fn not_found(title: impl Into<String>) -> Self {
        Self::new("not-found", title)
    }

    /// `invalid`: the request can't be understood or holds a value that is not allowed.
    pub fn invalid(title: impl Into<String>) -> Self {
        Self::new("invalid", title)
    }

    /// `conflict`: the request contradicts the present state.
    pub fn conflict(title: impl Into<String>) -> Self {
        Self::new("conflict", title)
    }

    /// `refused`: the asker may not do this.
    pub fn refused(title: impl Into<String>) -> Self {
        Self::new("refused", title)
    }

    /// `too-long`: a text or list is over its limit.
    pub fn too_long(title: impl Into<String>) -> Self {
        Self::new("too-long", title)
    }

    /// `busy`: the limit of work in progress is reached.
    pub fn busy(title: impl Into<String>) -> Self {
        Self::new("busy", title).with_what_to_do("Try again in a moment.")
    }

    /// `locked`: the vault or this person's store is locked.
    pub fn locked() -> Self {
        Self::new("locked", "AICO is locked").with_what_to_do("Unlock AICO with the password.")
    }

    /// `storage-full`: the disk has no space left.
    pub fn storage_full() -> Self {
        Self::new("storage-full", "The disk is full").with_what_to_do("Free some disk space.")
    }

    /// `storage-read-only`: the disk can only be read.
    pub fn storage_read_only() -> Self {
        Self::new("storage-read-only", "The disk can only be read")
            .with_what_to_do("Make the disk writable again; AICO goes on by itself.")
    }

    /// `storage-failing`: the disk failed at reading or writing.
    pub fn storage_failing() -> Self {
        Self::new("storage-failing", "The disk failed").with_what_to_do(
            "Make a backup to another disk while this one can be read, and look at the system's \
             log.",
        )
    }

    /// `model-failed`: the model process could not answer.
    pub fn model_failed(title: impl Into<String>) -> Self {
        Self::new("model-failed", title)
    }

    /// `internal`: a defect of AICO; `title` says in which part.
    pub fn internal(title: impl Into<String>) -> Self {
        Self::new("internal", title)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.title, self.code)
    }
}

impl std::error::Error for Fault {}
