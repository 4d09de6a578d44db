//! A name for an id that people can say: `amber-otter-482`.
//!
//! Pure, and the same in every version: the text of the id alone gives the words. Written for Arroyo's UDF compiler, so
//! one `#[udf]` function, no dependencies; the embedded runner compiles the same file.

use arroyo_udf_plugin::udf;

/// Words of each list that ids choose from. Lists only ever grow, at their end, and this stays: a word that is added,
/// moved or taken out here would give people who are known by their name another one.
const WORDS: u64 = 128;

/// Three digits, never with a leading zero.
const NUMBERS: u64 = 900;

#[rustfmt::skip]
const ADJECTIVES: &[&str] = &[
    "amber", "ample", "azure", "balmy", "bold", "brave", "breezy", "bright", "brisk", "bronze", "calm", "candid",
    "cheery", "chipper", "clever", "cobalt", "copper", "coral", "cosmic", "cozy", "crimson", "crisp", "curious",
    "dapper", "daring", "dazzling", "deft", "dewy", "eager", "early", "earnest", "easy", "elated", "emerald",
    "fabled", "fair", "fancy", "fearless", "festive", "fleet", "fluent", "fond", "frank", "fresh", "friendly",
    "frosty", "gallant", "gentle", "giddy", "gilded", "glad", "gleaming", "golden", "graceful", "grand", "grateful",
    "happy", "hardy", "hazel", "hearty", "honest", "humble", "indigo", "ivory", "jade", "jaunty", "jolly", "jovial",
    "keen", "kind", "lilac", "limber", "lively", "loyal", "lucid", "lucky", "lunar", "mellow", "merry", "mighty",
    "mild", "mint", "misty", "modest", "mossy", "neat", "nimble", "noble", "olive", "opal", "patient", "peachy",
    "pearly", "placid", "playful", "plucky", "polite", "proud", "quick", "quiet", "radiant", "rapid", "ready", "ruby",
    "rustic", "sage", "sandy", "scarlet", "serene", "shiny", "silver", "sincere", "smooth", "snowy", "solar",
    "sparkling", "speedy", "spry", "stellar", "sturdy", "sunny", "swift", "tidy", "tranquil", "trusty", "velvet",
    "vibrant", "vivid",
];

#[rustfmt::skip]
const ANIMALS: &[&str] = &[
    "alpaca", "antelope", "badger", "beaver", "bison", "bluebird", "bobcat", "bumblebee", "bunting", "butterfly",
    "buzzard", "camel", "canary", "capybara", "caribou", "cat", "chickadee", "chinchilla", "chipmunk", "cicada",
    "condor", "coyote", "crane", "cricket", "curlew", "deer", "dingo", "dolphin", "dormouse", "dove", "dragonfly",
    "duck", "eagle", "egret", "elk", "ermine", "falcon", "fawn", "ferret", "finch", "firefly", "flamingo", "fox",
    "gannet", "gazelle", "gecko", "gibbon", "giraffe", "goldfinch", "goose", "grouse", "gull", "hare", "hawk",
    "hedgehog", "heron", "hoopoe", "hummingbird", "ibex", "ibis", "iguana", "jackdaw", "jaguar", "jay", "kestrel",
    "kingfisher", "kiwi", "koala", "kookaburra", "lark", "lemur", "leopard", "linnet", "llama", "lynx", "magpie",
    "mallard", "manatee", "marmot", "marten", "meerkat", "mole", "moose", "narwhal", "newt", "nightingale", "ocelot",
    "oriole", "osprey", "otter", "owl", "panda", "panther", "parrot", "partridge", "pelican", "penguin", "petrel",
    "pheasant", "pika", "plover", "pony", "puffin", "quail", "rabbit", "raccoon", "raven", "robin", "salmon", "seal",
    "sparrow", "squirrel", "starling", "stork", "swallow", "swan", "tapir", "tern", "thrush", "toucan", "turtle",
    "wagtail", "walrus", "warbler", "wombat", "woodpecker", "wren", "yak",
];

/// FNV-1a over the text, then one round of mixing: ids made in the same second differ in their last digits only, and
/// without it they would share their words.
fn hash(text: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Two words and a number for an id's text, as in `amber-otter-482`; 14,745,600 of them, so not unique.
#[udf]
pub fn readable_id(id: &str) -> String {
    let hash = hash(id);
    let adjective = ADJECTIVES[(hash % WORDS) as usize];
    let animal = ANIMALS[(hash / WORDS % WORDS) as usize];
    let number = 100 + hash / (WORDS * WORDS) % NUMBERS;
    format!("{adjective}-{animal}-{number}")
}
