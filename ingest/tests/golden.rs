//! Every version of every payload keeps its bytes: a changed field name or order would make old logs unreadable or
//! change their hashes.

use ingest::event::{DecodeError, Event};
use ingest::payload::Payload;
use ingest::seal::sealed_texts;
use std::path::PathBuf;

fn golden(kind: &str, version: u32) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{kind}.v{version}.json"));
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("failed to read golden bytes {}: {error}", path.display())).trim_end().to_owned()
}

#[test]
fn every_version_decodes_and_the_newest_encodes_to_its_bytes() {
    for &(kind, newest) in Payload::KINDS {
        for version in 1..=newest {
            let bytes = golden(kind, version);
            let event = Event::decode(&bytes).unwrap_or_else(|error| panic!("{kind} v{version}: {error}"));
            assert_eq!(event.payload.kind(), kind);
            if version == newest {
                assert_eq!(event.encode(), bytes, "{kind} v{version} changed its bytes");
            }
        }
    }
}

#[test]
fn newer_versions_and_unknown_types_are_named() {
    let bytes = golden("message_posted", 1);
    let newer = Event::decode(&bytes.replace("\"v\":1", "\"v\":9")).expect_err("newer");
    assert!(matches!(&newer, DecodeError::UnknownVersion { kind, version: 9, newest: 2 } if kind == "message_posted"));
    assert!(newer.to_string().contains("'message_posted' v9 is newer than v2"), "{newer}");
    let unknown = Event::decode(&bytes.replace("message_posted", "hologram_projected")).expect_err("unknown");
    assert!(unknown.to_string().contains("'hologram_projected' v1"), "{unknown}");
}

#[test]
fn unknown_fields_are_refused_rather_than_dropped() {
    let bytes = golden("mail_sent", 1).replace("\"attempts\":1", "\"attempts\":1,\"surprise\":true");
    assert!(Event::decode(&bytes).expect_err("unknown field").to_string().contains("surprise"));
}

/// `verify` opens the sealed texts of every event: none of any payload is overlooked, and what a tenant sends as JSON isn't
/// taken for one.
#[test]
fn every_sealed_text_of_every_payload_is_found() {
    let mut found = 0;
    for &(kind, newest) in Payload::KINDS {
        let bytes = golden(kind, newest);
        let texts = sealed_texts(&Event::decode(&bytes).expect("decodes"));
        assert_eq!(texts.len(), bytes.matches("{\"p\":\"").count(), "{kind}");
        for text in &texts {
            assert!(bytes.contains(&serde_json::to_string(text).expect("JSON")), "{kind}: {text:?}");
        }
        found += texts.len();
    }
    assert!(found > 10, "{found}");
    let like = r#""theme":{"a":{"p":"01900000-0000-7000-8000-000000000001","c":"AAAA"}}"#;
    let bytes = golden("chatbot_created", 2);
    let theme = bytes.find("\"theme\":{").expect("a theme");
    let end = theme + bytes[theme..].find('}').expect("its end") + 1;
    let event = Event::decode(&format!("{}{like}{}", &bytes[..theme], &bytes[end..])).expect("decodes");
    assert_eq!(sealed_texts(&event).len(), 0);
}
