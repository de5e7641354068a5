//! (being written)

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Being written.
    #[error("{0}")]
    Other(String),
}
