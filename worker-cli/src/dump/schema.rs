//! The tables: made and brought up to date by migrations that are part of the program.
//!
//! Several workers may set up one database at once; a lock of the database lets one after the other do it.

use super::values::Encoding;
use super::{DatabaseUrl, DumpError};
use crate::node::NodeHandle;
use crate::storage::StorageError;
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::keys::Address;
use block_chain_common::state::StateKey;
use block_chain_common::transaction::Role;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use tokio_postgres::Client;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
/// What the versions of this program's migrations begin with; another program's may be in the same database.
const PREFIX: &str = "sqlcopy";
/// The lock: an arbitrary number of this program's own.
const SETUP_LOCK: i64 = 0x626c_6f63_6b63_6861;

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Makes what is missing, with the chain's own rows.
pub(super) async fn prepare(
    client: Client,
    url: &DatabaseUrl,
    node: &NodeHandle,
) -> Result<Encoding, DumpError> {
    let (chain, spec) = (node.chain_id().to_string(), node.spec().spec());
    let shown = url.shown();
    let failed = |reason: String| DumpError::Database {
        database: shown.clone(),
        reason,
    };
    let query_failed = |error: diesel::result::Error| failed(error.to_string());
    let mut connection = AsyncPgConnection::try_from(client)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let encoding = sql_query("SELECT current_setting('server_encoding') AS value");
    let encoding: Setting = encoding.get_result(&mut connection).await.map_err(query_failed)?;
    let encoding = match encoding.value.as_str() {
        "UTF8" => Encoding::Utf8,
        // What a cluster made under the locale `C` has: it takes all bytes as they are.
        "SQL_ASCII" => Encoding::Ascii,
        _ => {
            return Err(DumpError::Encoding {
                database: shown,
                found: encoding.value,
            });
        }
    };
    // "already exists" comes as a notice, which is of no interest. The lock ends with the connection.
    for statement in ["SET client_min_messages = warning", "SET lock_timeout = 0"] {
        sql_query(statement)
            .execute(&mut connection)
            .await
            .map_err(query_failed)?;
    }
    let lock = sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(SETUP_LOCK);
    lock.execute(&mut connection).await.map_err(query_failed)?;
    let mut connection = migrate(connection, &shown)?;
    let insert = sql_query("INSERT INTO chains (chain, name) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    insert
        .bind::<Text, _>(&chain)
        .bind::<Text, _>(&spec.name)
        .execute(&mut connection)
        .await
        .map_err(query_failed)?;
    describe(&mut connection, &chain, spec, &first_grants(node)?)
        .await
        .map_err(query_failed)?;
    let insert = sql_query("INSERT INTO dump_watermarks VALUES ($1, 0, 0, '') ON CONFLICT DO NOTHING");
    insert
        .bind::<Text, _>(&chain)
        .execute(&mut connection)
        .await
        .map_err(query_failed)?;
    Ok(encoding)
}

/// The roles that a chain began with: its spec's, or a fork's parent's.
fn first_grants(node: &NodeHandle) -> Result<Vec<(Address, Role)>, StorageError> {
    let given = node.spec().spec().grants.as_slice().iter();
    let mut grants: Vec<_> = given.map(|grant| (grant.address, grant.role)).collect();
    for entry in node.store().inherited_state() {
        if let (StateKey::Grant(address, role), _) = entry? {
            grants.push((address, role));
        }
    }
    Ok(grants)
}

/// What the chain is, once; in one statement, so that a kill leaves all of it or nothing. A role that it began with and that
/// a copied block has changed since is as that block says.
async fn describe(
    connection: &mut AsyncPgConnection,
    chain: &str,
    spec: &ChainSpec,
    grants: &[(Address, Role)],
) -> diesel::QueryResult<()> {
    let (addresses, roles): (Vec<String>, Vec<String>) = grants
        .iter()
        .map(|(address, role)| (address.to_string(), role.to_string()))
        .unzip();
    let open: Vec<String> = spec
        .open_roles
        .as_slice()
        .iter()
        .map(ToString::to_string)
        .collect();
    let parent = spec.parent.as_ref();
    let statement = sql_query(
        "WITH described AS (UPDATE chains SET proof = $2, block_interval_ms = $3::numeric, reward = $4::numeric, \
         decimals = $5, open_roles = $6, parent_chain = $7, parent_height = $8 \
         WHERE chain = $1 AND proof IS NULL RETURNING chain) \
         INSERT INTO roles SELECT described.chain, g.address, g.role \
         FROM described, unnest($9::text[], $10::text[]) AS g (address, role) \
         WHERE NOT EXISTS (SELECT FROM transactions t WHERE t.chain = $1 AND t.type IN ('grant', 'revoke') \
         AND t.recipient = g.address AND t.role = g.role) ON CONFLICT DO NOTHING",
    );
    let parent_height = parent.map(|parent| super::batch::to_sql(parent.height.get()));
    statement
        .bind::<Text, _>(chain)
        .bind::<Text, _>(spec.proof.name())
        .bind::<Text, _>(spec.block_interval_ms.to_string())
        .bind::<Text, _>(spec.reward.to_string())
        .bind::<Integer, _>(i32::from(spec.decimals))
        .bind::<Array<Text>, _>(open)
        .bind::<Nullable<Text>, _>(parent.map(|parent| parent.chain.to_string()))
        .bind::<Nullable<BigInt>, _>(parent_height)
        .bind::<Array<Text>, _>(addresses)
        .bind::<Array<Text>, _>(roles)
        .execute(connection)
        .await
        .map(drop)
}

fn migrate(connection: AsyncPgConnection, shown: &str) -> Result<AsyncPgConnection, DumpError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| DumpError::Database {
        database: shown.to_owned(),
        reason: format!("its tables cannot be made: {error}"),
    };
    let mut harness = AsyncMigrationHarness::new(connection);
    let applied = harness.applied_migrations().map_err(failed)?;
    let ours = |version: &String| version.starts_with(PREFIX);
    let found = applied
        .iter()
        .map(ToString::to_string)
        .filter(ours)
        .max()
        .unwrap_or_default();
    let known = known().map_err(failed)?;
    if found > known {
        return Err(DumpError::NewerSchema { found, known });
    }
    harness.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    Ok(harness.into_inner())
}

fn known() -> diesel::migration::Result<String> {
    let all = diesel::migration::MigrationSource::<diesel::pg::Pg>::migrations(&MIGRATIONS)?;
    Ok(all
        .iter()
        .map(|migration| migration.name().version().to_string())
        .max()
        .unwrap_or_default())
}
