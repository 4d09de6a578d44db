//! Addresses as mail goes to them: the domain in the form that DNS has, which every server takes. Only a name before the `@` that
//! is beyond ASCII needs a server with SMTPUTF8 (RFC 6531).
//!
//! Steps and memory are linear in the address, which those who store it bound (254 bytes).

use lettre::Address;

/// The name before the last `@`, and the domain in lower case and in ASCII; `None` without both. A domain that is none stays as it
/// is: who looks at it next refuses it.
pub(super) fn parts(address: &str) -> Option<(&str, String)> {
    let (name, domain) = address.trim().rsplit_once('@')?;
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
    Some((name, domain))
}

/// The address as it stands in an envelope and in headers; `None` for what is none.
pub(super) fn address(text: &str) -> Option<Address> {
    let (name, domain) = parts(text)?;
    Address::new(name, domain).ok()
}

/// The mailbox, for what counts by it: what stands behind a `+` only sorts its mails, and anybody can type as many as they like.
pub(super) fn mailbox(address: &str) -> String {
    match parts(address) {
        Some((name, domain)) => format!("{}@{domain}", name.to_lowercase().split('+').next().unwrap_or_default()),
        None => address.trim().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_has_one_form() {
        for (address, kept) in [
            ("Ada+shop@Example.COM", "ada@example.com"),
            (" ada@example.com ", "ada@example.com"),
            ("ada@Müller.example", "ada@xn--mller-kva.example"),
            ("ada@mu\u{308}ller.example", "ada@xn--mller-kva.example"),
            ("ada@xn--mller-kva.example", "ada@xn--mller-kva.example"),
            ("用户@例子.测试", "用户@xn--fsqu00a.xn--0zwm56d"),
            ("nobody", "nobody"),
        ] {
            assert_eq!(mailbox(address), kept, "{address}");
        }
    }
}
