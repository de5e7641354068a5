//! The tables, as diesel sees them; made by `migrations/`.

diesel::table! {
    settings (name) { name -> Text, value -> Text, }
}
diesel::table! {
    challenges (challenge) { challenge -> Text, expires_ms -> BigInt, }
}
diesel::table! {
    chains (name) {
        name -> Text,
        id -> Text,
        spec -> Text,
        term -> BigInt,
        leader -> Nullable<Text>,
        leader_since_ms -> BigInt,
        final_size -> BigInt,
    }
}
diesel::table! {
    workers (id) {
        id -> Text,
        public_key -> Nullable<Text>,
        name -> Nullable<Text>,
        token_hash -> Nullable<Text>,
        registered_ms -> BigInt,
    }
}
diesel::table! {
    members (chain, worker) {
        chain -> Text,
        worker -> Text,
        joined -> BigInt,
        addresses -> Text,
        api -> Nullable<Text>,
        last_seen_ms -> BigInt,
        height -> BigInt,
        head -> Text,
        committed -> BigInt,
        counts -> BigInt,
    }
}
diesel::table! {
    checkpoints (chain, size) { chain -> Text, size -> BigInt, root -> Text, block -> Text, note -> Text, }
}
diesel::table! {
    cosignatures (chain, size, public_key) { chain -> Text, size -> BigInt, public_key -> Text, line -> Text, }
}
diesel::table! {
    claims (chain, worker) {
        chain -> Text,
        worker -> Text,
        term -> BigInt,
        size -> BigInt,
        note -> Text,
        claimed_ms -> BigInt,
    }
}
diesel::table! {
    recoveries (chain, at_ms) { chain -> Text, at_ms -> BigInt, note -> Text, }
}
diesel::table! {
    orders (chain, nonce) { chain -> Text, nonce -> BigInt, body -> Text, }
}
diesel::allow_tables_to_appear_in_same_query!(members, workers);
