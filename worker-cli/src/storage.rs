//! x
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{0}")]
    Damaged(String),
}
impl StorageError { pub fn damaged(what: String) -> Self { Self::Damaged(what) } }
