//! Ways to break the simulated world on purpose: a simulation that does not notice them is worth nothing.

use super::disk::DiskMutation;

/// Something that is wrong and must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Every disk is wrong in this way.
    Disk(DiskMutation),
    /// The catalog applies transactions whose compares do not hold.
    CompareForgotten,
    /// A transaction that was never applied is told to be done.
    SilenceIsYes,
    /// A member says that it came to the row, whether it did or not.
    BehindSaysLevel,
    /// A member that could not store a change says that it did.
    PrepareNotStored,
    /// The catalog forgets to delete.
    DeleteForgotten,
    /// Whoever reads the lease finds it just renewed.
    LeaseSeemsRenewed,
    /// A renewal of the lease is told to be done and is not.
    RenewalForgotten,
    /// A daemon that is told to hand the cell over does not hear it.
    HandOverKeepsOwning,
    /// A client mixes bytes of another place into what it read.
    ReaderMixes,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Disk(DiskMutation::JournalUnsynced),
        Self::Disk(DiskMutation::FolderUnsynced),
        Self::Disk(DiskMutation::ContentUnsynced),
        Self::Disk(DiskMutation::StagedByteFlipped),
        Self::Disk(DiskMutation::WrongFileRetired),
        Self::CompareForgotten,
        Self::SilenceIsYes,
        Self::BehindSaysLevel,
        Self::PrepareNotStored,
        Self::DeleteForgotten,
        Self::LeaseSeemsRenewed,
        Self::RenewalForgotten,
        Self::HandOverKeepsOwning,
        Self::ReaderMixes,
    ];

    /// The name in options and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk(DiskMutation::JournalUnsynced) => "journal-unsynced",
            Self::Disk(DiskMutation::FolderUnsynced) => "folder-unsynced",
            Self::Disk(DiskMutation::ContentUnsynced) => "content-unsynced",
            Self::Disk(DiskMutation::StagedByteFlipped) => "staged-byte-flipped",
            Self::Disk(DiskMutation::WrongFileRetired) => "wrong-file-retired",
            Self::CompareForgotten => "compare-forgotten",
            Self::SilenceIsYes => "silence-is-yes",
            Self::BehindSaysLevel => "behind-says-level",
            Self::PrepareNotStored => "prepare-not-stored",
            Self::DeleteForgotten => "delete-forgotten",
            Self::LeaseSeemsRenewed => "lease-seems-renewed",
            Self::RenewalForgotten => "renewal-forgotten",
            Self::HandOverKeepsOwning => "hand-over-keeps-owning",
            Self::ReaderMixes => "reader-mixes",
        }
    }
}
