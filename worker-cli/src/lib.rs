pub mod machine;
pub mod storage;
