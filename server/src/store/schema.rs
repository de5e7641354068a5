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
        made_by -> Nullable<Text>,
    }
}
diesel::table! {
    workers (id) {
        id -> Text,
        public_key -> Nullable<Text>,
        name -> Nullable<Text>,
        token_hash -> Nullable<Text>,
        registered_ms -> BigInt,
        banned_ms -> Nullable<BigInt>,
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
        orders -> BigInt,
        version -> Nullable<Text>,
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
diesel::table! {
    join_tokens (id) {
        id -> Text,
        hash -> Text,
        label -> Text,
        created_ms -> BigInt,
        expires_ms -> Nullable<BigInt>,
        uses_left -> Nullable<BigInt>,
        used -> BigInt,
        revoked_ms -> Nullable<BigInt>,
    }
}
diesel::table! {
    terms (chain, term) { chain -> Text, term -> BigInt, worker -> Text, since_ms -> BigInt, }
}
diesel::table! {
    figures (chain, minute) {
        chain -> Text,
        minute -> BigInt,
        blocks -> BigInt,
        transactions -> BigInt,
        bytes -> BigInt,
        work -> Double,
        checkpoints -> BigInt,
        final_ms -> BigInt,
        finals -> BigInt,
        shares -> Text,
    }
}
diesel::table! {
    fork_wishes (name) { name -> Text, chain -> Text, height -> BigInt, asked_ms -> BigInt, }
}
diesel::allow_tables_to_appear_in_same_query!(members, workers);
