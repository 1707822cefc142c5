//! Decoding an invitation code never panics, and reads no code that it would not write.
//!
//! The input is tried twice: as the text that a person pastes, and as the record inside a code whose
//! checksum is right, which chance alone would never find.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use relay_agent::invitation::Invitation;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    if let Ok(invitation) = Invitation::decode(&text) {
        let code = invitation.encode();
        let again = Invitation::decode(code.expose()).expect("what was written is read");
        assert_eq!(format!("{again:?}"), format!("{invitation:?}"));
    }
    let code = code_around(input);
    if let Ok(invitation) = Invitation::decode(&code) {
        assert_eq!(*invitation.encode().expose(), code);
    }
});

fn code_around(record: &[u8]) -> String {
    let length = u16::try_from(record.len() + 7).unwrap_or(u16::MAX);
    let mut envelope = vec![1];
    envelope.extend_from_slice(&length.to_be_bytes());
    envelope.extend_from_slice(record);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &envelope);
    envelope.extend_from_slice(&digest.as_ref()[..4]);
    format!("inv1_{}", URL_SAFE_NO_PAD.encode(envelope))
}
