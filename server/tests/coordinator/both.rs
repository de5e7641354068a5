//! Every rule is tried on SQLite and on PostgreSQL.

/// Opens the same database each time.
pub(crate) type Open<'a> = &'a dyn Fn() -> block_chain_server::store::Store;

/// A test of its own for each on SQLite, and one for all on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("coordinator.sqlite");
                super::$name(&|| block_chain_server::store::Store::open_sqlite(&file).unwrap());
            })*
        }

        #[test]
        fn all_of_them_hold_on_postgres() {
            let all: &[(&str, fn(crate::both::Open<'_>))] = &[$((stringify!($name), $name)),*];
            let cluster = crate::cluster::Cluster::start();
            for (name, rule) in all {
                println!("rule {name}");
                let url = cluster.new_database();
                rule(&|| block_chain_server::store::Store::open_postgres(&url).unwrap());
            }
        }
    };
}
pub(crate) use on_both;
