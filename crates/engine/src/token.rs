//! Task tokens: the name of an attempt, signed with a key of the store (INTERFACES section 7).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eventflow_domain::{Attempt, ExecutionId, TaskReference, Tenant};
use eventflow_ports::inbound::TaskToken;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// 128 bits can't be guessed, and keep the token short.
const SIGNATURE_BYTES: usize = 16;
/// Longer than any token that was ever given out: a pointer of a document's depth.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Makes and reads tokens.
#[derive(Clone)]
pub(crate) struct Tokens {
    key: [u8; 32],
}

/// What a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) execution: ExecutionId,
    pub(crate) task: TaskReference,
    pub(crate) attempt: Attempt,
}

impl Tokens {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The token of an attempt of this tenant.
    pub(crate) fn sign(&self, tenant: &Tenant, named: &Named) -> TaskToken {
        let iteration: Vec<_> = named
            .task
            .iteration
            .iter()
            .map(ToString::to_string)
            .collect();
        let text = format!(
            "{}\n{}\n{}\n{}",
            named.attempt,
            named.execution,
            iteration.join(","),
            named.task.pointer
        );
        let mut bytes = self.mac(tenant, text.as_bytes()).to_vec();
        bytes.extend(text.as_bytes());
        TaskToken(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// What a token names; nothing where it was not given out by this store to this tenant.
    pub(crate) fn read(&self, tenant: &Tenant, token: &TaskToken) -> Option<Named> {
        if token.0.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token.0.as_bytes()).ok()?;
        let (signature, text) = bytes.split_at_checked(SIGNATURE_BYTES)?;
        let mut mac = self.keyed(tenant);
        mac.update(text);
        mac.verify_truncated_left(signature).ok()?;
        let mut lines = std::str::from_utf8(text).ok()?.splitn(4, '\n');
        let attempt = Attempt(lines.next()?.parse().ok()?);
        let execution = ExecutionId::parse(lines.next()?).ok()?;
        let iteration = lines.next()?.split(',').filter(|index| !index.is_empty());
        let iteration = iteration.map(str::parse).collect::<Result<_, _>>().ok()?;
        let task = TaskReference {
            pointer: lines.next()?.into(),
            iteration,
        };
        Some(Named {
            execution,
            task,
            attempt,
        })
    }

    fn mac(&self, tenant: &Tenant, text: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut mac = self.keyed(tenant);
        mac.update(text);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        whole[..SIGNATURE_BYTES]
            .try_into()
            .expect("a SHA-256 has more bytes")
    }

    fn keyed(&self, tenant: &Tenant) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(tenant.as_str().as_bytes());
        mac.update(b"\n");
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Named {
        Named {
            execution: ExecutionId::parse("order-1").unwrap(),
            task: TaskReference {
                pointer: "/do/0/charge\nit".into(),
                iteration: vec![3, 14],
            },
            attempt: Attempt(2),
        }
    }

    #[test]
    fn a_token_names_what_it_was_made_of() {
        let (tokens, tenant) = (Tokens::new([7; 32]), Tenant::default_tenant());
        assert_eq!(
            tokens.read(&tenant, &tokens.sign(&tenant, &named())),
            Some(named())
        );
    }

    #[test]
    fn another_key_tenant_or_text_is_no_token() {
        let (tokens, tenant) = (Tokens::new([7; 32]), Tenant::default_tenant());
        let token = tokens.sign(&tenant, &named());
        assert_eq!(Tokens::new([8; 32]).read(&tenant, &token), None);
        assert_eq!(tokens.read(&Tenant::parse("other").unwrap(), &token), None);
        for forged in ["", "AAAA", &token.0[1..], &format!("{}A", token.0), "§"] {
            assert_eq!(
                tokens.read(&tenant, &TaskToken(forged.into())),
                None,
                "{forged}"
            );
        }
    }
}
