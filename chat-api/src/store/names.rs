//! By what a visitor's name is found: HMACs of its words, whose accents and case don't count. Start at [`name_hmacs`].
//!
//! A name has at most 200 characters, and of its words [`WORDS_MAX`] count. What was written before accents were left out is
//! brought up to date once, a page of visitors at a time: [`outdated`], [`add`].

use crate::core::state::Visitor;
use crate::store::load::parse;
use icu_normalizer::DecomposingNormalizerBorrowed;
use ingest::id::{TenantId, VisitorId};
use ingest::seal::KeyFile;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::BTreeSet;

/// Words of a name, and of a query, that count.
const WORDS_MAX: usize = 8;
/// Marks that are written over, under and in letters, and that many leave out: of Latin, Greek and Cyrillic, of Hebrew, of Arabic.
const MARKS: [std::ops::RangeInclusive<char>; 4] =
    ['\u{300}'..='\u{36f}', '\u{591}'..='\u{5c7}', '\u{64b}'..='\u{65f}', '\u{670}'..='\u{670}'];

/// A text in lower case without accents: what is written `Łukasz`, `MÜLLER` or `Größe` is `lukasz`, `muller`, `grosse`.
fn folded(text: &str) -> String {
    let lower = text.to_lowercase();
    let letters = DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(lower.chars());
    let mut folded = String::with_capacity(lower.len());
    for letter in letters.filter(|letter| !MARKS.iter().any(|marks| marks.contains(letter))) {
        // Letters of their own, which no mark makes.
        match letter {
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            'ø' => folded.push('o'),
            'ł' => folded.push('l'),
            'đ' | 'ð' => folded.push('d'),
            'ħ' => folded.push('h'),
            'ı' => folded.push('i'),
            'ŧ' => folded.push('t'),
            letter => folded.push(letter),
        }
    }
    folded
}

/// Words of letters and digits, each once, in order of the alphabet.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: BTreeSet<String> = words.take(WORDS_MAX).map(str::to_owned).collect();
    words.into_iter().collect()
}

fn hmac(key_file: &KeyFile, tenant: TenantId, words: &[&str]) -> String {
    key_file.lookup("name", [&tenant.to_string(), words.join(" ").as_str()].join("\n").as_bytes())
}

/// By what a name is looked up: HMACs of its words, and of each two of them, since many people share a word and few share
/// two.
#[must_use]
pub fn name_hmacs(key_file: &KeyFile, tenant: TenantId, name: &str) -> Vec<String> {
    let words = words(&folded(name));
    let mut hmacs = Vec::new();
    for (number, word) in words.iter().enumerate() {
        hmacs.push(hmac(key_file, tenant, &[word]));
        hmacs.extend(words[number + 1..].iter().map(|other| hmac(key_file, tenant, &[word, other])));
    }
    hmacs
}

/// What a name that has all words of the query is looked up by: one of these lists, all of it. The second is of names that
/// were written before accents were left out.
pub(super) fn asked(key_file: &KeyFile, tenant: TenantId, query: &str) -> Vec<Vec<String>> {
    let mut forms = vec![words(&folded(query)), words(&query.to_lowercase())];
    forms.dedup();
    let hmacs = |words: &Vec<String>| match words.as_slice() {
        [word] => vec![hmac(key_file, tenant, &[word])],
        words => words.windows(2).map(|pair| hmac(key_file, tenant, &[&pair[0], &pair[1]])).collect(),
    };
    forms.iter().map(hmacs).filter(|hmacs| !hmacs.is_empty()).collect()
}

/// Whether a name was looked up by other words before accents were left out.
#[must_use]
pub fn was_other(name: &str) -> bool {
    words(&folded(name)) != words(&name.to_lowercase())
}

/// Makes the table that says how far names were brought up to date.
pub(super) fn create_table(connection: &Connection) -> rusqlite::Result<()> {
    // Where nobody is looked up yet, nobody is by old words.
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS names_folded (one INTEGER PRIMARY KEY CHECK (one = 1), upto BLOB, done INTEGER NOT NULL) STRICT;
         INSERT OR IGNORE INTO names_folded SELECT 1, NULL, NOT EXISTS (SELECT 1 FROM visitor_names);",
    )
}

/// The visitors after those whose names are up to date, by id, at most `limit`; `None` once all are.
///
/// # Errors
/// SQLite's.
pub fn outdated(connection: &Connection, limit: i64) -> rusqlite::Result<Option<Vec<Visitor>>> {
    let sql = "SELECT coalesce(upto, x'') FROM names_folded WHERE NOT done";
    let upto: Option<Vec<u8>> = connection.prepare_cached(sql)?.query_row((), |row| row.get(0)).optional()?;
    let Some(upto) = upto else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT body FROM visitors WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let rows = statement.query_map((upto, limit), |row| parse(&row.get::<_, String>(0)?))?;
    rows.collect::<rusqlite::Result<_>>().map(Some)
}

/// What a visitor is found by beside what they are found by already, as of the time at which their name was given.
#[derive(Debug, Clone)]
pub struct Added {
    /// Whose name it is, and who they turned out to be.
    pub visitor: VisitorId,
    /// Whose visitor.
    pub tenant: TenantId,
    /// By what else.
    pub hmacs: Vec<String>,
}

/// Since when a visitor is found by a name; `None` for who isn't, as erased people aren't.
///
/// # Errors
/// SQLite's.
pub fn since(connection: &Connection, visitor: VisitorId) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(n.at) FROM visitor_names AS n WHERE n.visitor = ?1";
    connection.prepare_cached(sql)?.query_row([visitor.bytes()], |row| row.get(0))
}

/// Adds what visitors are found by, unless another name was given since it was read, and notes that all up to `upto` are
/// done; without it, all are.
///
/// # Errors
/// SQLite's.
pub fn add(connection: &Connection, read: &[(Added, i64)], upto: Option<VisitorId>) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO visitor_names VALUES (?1, ?2, ?3, ?4)")?;
    for (added, at) in read {
        if since(connection, added.visitor)? == Some(*at) {
            for hmac in &added.hmacs {
                insert.execute((added.tenant.bytes(), hmac, at, added.visitor.bytes()))?;
            }
        }
    }
    let sql = "UPDATE names_folded SET upto = ?1, done = ?2";
    connection.prepare_cached(sql)?.execute((upto.map(|id| *id.bytes()), upto.is_none())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_letters_and_digits_each_once() {
        let words = |text: &str| words(&folded(text));
        assert_eq!(words("Anna-Lena  von der Größe, ANNA 3rd"), ["3rd", "anna", "der", "grosse", "lena", "von"]);
        assert!(words("%_*' \"\\").is_empty());
    }

    /// However an accent is written, with the letter or after it, or left out.
    #[test]
    fn accents_and_case_dont_count() {
        for (written, found) in [
            ("José", "jose"),
            ("Jose\u{301}", "jose"),
            ("MÜLLER", "muller"),
            ("Łukasz", "lukasz"),
            ("Søren Ærø", "soren aero"),
            ("Đorđe", "dorde"),
            ("İstanbul", "istanbul"),
            ("ısı", "isi"),
            ("STRAẞE Straße", "strasse strasse"),
            ("Ναύπλιο", "ναυπλιο"),
            ("Йод", "иод"),
            ("مُحَمَّد", "محمد"),
            ("ﬁn", "fin"),
            ("Nguyễn Thị", "nguyen thi"),
        ] {
            assert_eq!(folded(written), found, "{written}");
        }
        // Vowels of other writings are no accents.
        assert_ne!(folded("กิ"), folded("กุ"));
    }

    /// The longest name that there is, of the letters that decompose into most.
    #[test]
    fn a_name_stays_bounded() {
        assert!(folded(&"\u{fdfa}".repeat(200)).len() < 16 * 1024);
    }
}
