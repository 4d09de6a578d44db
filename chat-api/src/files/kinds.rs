//! What may be sent: decided by a file's content, never by what the sender calls it. Nothing that a browser would run.
//!
//! The list is what people send to support: pictures, recordings, documents, archives and plain text. Markup (HTML, SVG,
//! XML) isn't on it, and neither are programs.

/// A type that may be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The media type it's served as.
    pub media_type: &'static str,
    /// What a name of it may end in; the first is added to one that ends otherwise.
    pub extensions: &'static [&'static str],
}

macro_rules! kinds {
    ($($name:ident = $media_type:literal [$($extension:literal)*];)*) => {
        $(static $name: Kind = Kind { media_type: $media_type, extensions: &[$($extension),*] };)*
    };
}

kinds! {
    PNG = "image/png" ["png"];
    JPEG = "image/jpeg" ["jpg" "jpeg"];
    GIF = "image/gif" ["gif"];
    WEBP = "image/webp" ["webp"];
    AVIF = "image/avif" ["avif"];
    HEIC = "image/heic" ["heic" "heif"];
    PDF = "application/pdf" ["pdf"];
    MP4 = "video/mp4" ["mp4" "m4v"];
    QUICKTIME = "video/quicktime" ["mov" "qt"];
    THREE_GPP = "video/3gpp" ["3gp" "3gpp"];
    WEBM = "video/webm" ["webm" "weba"];
    M4A = "audio/mp4" ["m4a"];
    MP3 = "audio/mpeg" ["mp3"];
    OGG = "audio/ogg" ["ogg" "oga" "ogv" "opus"];
    WAV = "audio/wav" ["wav"];
    ZIP = "application/zip" ["zip"];
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document" ["docx"];
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" ["xlsx"];
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation" ["pptx"];
    ODT = "application/vnd.oasis.opendocument.text" ["odt"];
    ODS = "application/vnd.oasis.opendocument.spreadsheet" ["ods"];
    ODP = "application/vnd.oasis.opendocument.presentation" ["odp"];
    DOC = "application/msword" ["doc"];
    XLS = "application/vnd.ms-excel" ["xls"];
    PPT = "application/vnd.ms-powerpoint" ["ppt"];
    TEXT = "text/plain" ["txt" "log" "md"];
    CSV = "text/csv" ["csv"];
}

/// How a compound file of older office programs starts; what is in it only the name says.
const COMPOUND: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// Bytes of an archive that are kept from one chunk to the next, as a name may lie across.
const OVERLAP: usize = 32;

/// Finds out what a file is while it passes by.
#[derive(Default)]
pub struct Sniffer {
    guess: Option<Guess>,
    tail: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Guess {
    Known(&'static Kind),
    /// An archive, until something in it says which document it is.
    Archive(&'static Kind),
    Compound,
    Text,
}

impl Sniffer {
    /// Looks at the next chunk; the first one holds at least the first kilobytes of the file, or all of it. `false` for
    /// what may not be sent.
    pub fn take(&mut self, chunk: &[u8]) -> bool {
        let guess = match self.guess {
            None => first(chunk),
            Some(guess) => Some(guess),
        };
        self.guess = match guess {
            Some(Guess::Text) if !chunk.iter().copied().all(is_text) => None,
            Some(Guess::Archive(known)) if *known == ZIP => {
                self.tail.extend_from_slice(chunk);
                let found = document(&self.tail).unwrap_or(known);
                let keep = self.tail.len().saturating_sub(OVERLAP);
                self.tail.drain(..keep);
                Some(Guess::Archive(found))
            }
            guess => guess,
        };
        self.guess.is_some()
    }

    /// What it is; `name` chooses where the content is of a family of harmless types.
    #[must_use]
    pub fn kind(&self, name: Option<&str>) -> Option<&'static Kind> {
        let is_named = |kind: &Kind| name.is_some_and(|name| kind.extensions.contains(&&*extension(name)));
        match self.guess? {
            Guess::Known(kind) | Guess::Archive(kind) => Some(kind),
            Guess::Compound => [&DOC, &XLS, &PPT].into_iter().find(|kind| is_named(kind)),
            Guess::Text => Some(if is_named(&CSV) { &CSV } else { &TEXT }),
        }
    }
}

/// What a name ends in, in lower case; empty without a point.
#[must_use]
pub fn extension(name: &str) -> String {
    name.rsplit_once('.').map(|(_, end)| end.to_lowercase()).unwrap_or_default()
}

fn first(head: &[u8]) -> Option<Guess> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let known = |kind| Some(Guess::Known(kind));
    match head {
        _ if at(0, b"\x89PNG\r\n\x1a\n") => known(&PNG),
        _ if at(0, b"\xff\xd8\xff") => known(&JPEG),
        _ if at(0, b"GIF87a") || at(0, b"GIF89a") => known(&GIF),
        _ if at(0, b"RIFF") && at(8, b"WEBP") => known(&WEBP),
        _ if at(0, b"RIFF") && at(8, b"WAVE") => known(&WAV),
        _ if at(0, b"%PDF-") => known(&PDF),
        _ if at(4, b"ftyp") => head.get(8..12).and_then(brand).map(Guess::Known),
        // Matroska says what it is made for in its first bytes.
        _ if at(0, b"\x1a\x45\xdf\xa3") => {
            contains(&head[..head.len().min(64)], b"webm").then_some(Guess::Known(&WEBM))
        }
        _ if at(0, b"ID3") => known(&MP3),
        [0xff, 0xfb | 0xf3 | 0xf2, ..] => known(&MP3),
        _ if at(0, b"OggS") => known(&OGG),
        _ if at(0, b"PK\x03\x04") => Some(Guess::Archive(&ZIP)),
        _ if at(0, &COMPOUND) => Some(Guess::Compound),
        _ if !is_markup(head) => Some(Guess::Text),
        _ => None,
    }
}

fn brand(brand: &[u8]) -> Option<&'static Kind> {
    match brand {
        b"avif" | b"avis" => Some(&AVIF),
        b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" => Some(&HEIC),
        b"qt  " => Some(&QUICKTIME),
        b"M4A " | b"M4B " => Some(&M4A),
        b"isom" | b"iso2" | b"iso4" | b"iso5" | b"iso6" | b"mp41" | b"mp42" | b"avc1" | b"M4V " | b"dash" | b"MSNV" => {
            Some(&MP4)
        }
        [b'3', b'g', b'p' | b'g', ..] => Some(&THREE_GPP),
        _ => None,
    }
}

/// Which document an archive is, by the names in it. They stand before each entry and again at the end.
fn document(bytes: &[u8]) -> Option<&'static Kind> {
    let names: [(&[u8], &'static Kind); 6] = [
        (b"word/document.xml", &DOCX),
        (b"xl/workbook.xml", &XLSX),
        (b"ppt/presentation.xml", &PPTX),
        (b"opendocument.text", &ODT),
        (b"opendocument.spreadsheet", &ODS),
        (b"opendocument.presentation", &ODP),
    ];
    names.into_iter().find(|(name, _)| contains(bytes, name)).map(|(_, kind)| kind)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether a text starts like HTML, SVG or XML, after spaces and a byte order mark.
fn is_markup(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    matches!(text, [b'<', next, ..] if next.is_ascii_alphabetic() || matches!(next, b'!' | b'?' | b'/'))
}

/// Texts in any encoding that keeps ASCII; they hold no control characters but for lines, tabs and colours.
fn is_text(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(name: &str, chunks: &[&[u8]]) -> Option<&'static str> {
        let mut sniffer = Sniffer::default();
        chunks.iter().all(|chunk| sniffer.take(chunk)).then(|| sniffer.kind(Some(name)))?.map(|kind| kind.media_type)
    }

    #[test]
    fn the_content_decides_not_the_name() {
        assert_eq!(media_type("x.html", &[b"\x89PNG\r\n\x1a\n...."]), Some("image/png"));
        assert_eq!(media_type("x.png", &[b"\0\0\0\x18ftypisom"]), Some("video/mp4"));
        assert_eq!(media_type("x.csv", &[b"a,b\n1,2\n"]), Some("text/csv"));
        assert_eq!(media_type("x.exe", &[b"only words"]), Some("text/plain"));
        assert_eq!(media_type("x.doc", &[&COMPOUND]), Some("application/msword"));
    }

    #[test]
    fn markup_and_programs_are_refused_whatever_they_are_called() {
        for content in [
            &b"<html><script>alert(1)</script>"[..],
            b"\xef\xbb\xbf \n<!DOCTYPE html>",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"<?xml version='1.0'?>",
            b"MZ\x90\0\x03",
            b"\x7fELF\x02\x01\x01\0",
            b"words and then \0 bytes",
        ] {
            for name in ["x.png", "x.txt", "x.pdf"] {
                assert_eq!(media_type(name, &[content]), None, "{}", String::from_utf8_lossy(content));
            }
        }
        assert_eq!(media_type("x.msi", &[&COMPOUND]), None);
        assert_eq!(media_type("x.txt", &[b"words", b"and then \0"]), None, "also later on");
    }

    #[test]
    fn an_archive_is_known_by_what_is_in_it() {
        let head = b"PK\x03\x04 some entry";
        assert_eq!(media_type("x.zip", &[head]), Some("application/zip"));
        let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        assert_eq!(media_type("x", &[head, b"...word/document.xml..."]), Some(docx));
        assert_eq!(media_type("x", &[head, b"...word/docu", b"ment.xml..."]), Some(docx), "across chunks");
    }
}
