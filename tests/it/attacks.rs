//! The corpus of attacks, byte for byte through a real relay and a real agent: what is denied does not
//! arrive, and what arrives is what was matched, with no header beside those that may pass.

mod corpus;
mod http2;
mod recorder;
mod sender;
mod verdicts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use self::corpus::{Case, Corpus, Sent};
use self::recorder::{Arrived, Recorder};
use crate::harness::{CONNECTION, TestAgent, TestRelay, wait_until};

/// The corpus with this many requests, so that none is lost unnoticed.
const AT_LEAST: usize = 400;
/// How long the head of a request may take at this relay: some of the corpus have no end, and are waited for so long. A
/// machine that stands still for as long would make others look like them.
const RELAY: &str = "[limits]\nhead_timeout = '5s'\n";
/// The rules that the corpus names.
const RULES: &str = "
[[upstream.allow]]
methods = ['GET', 'POST']
path = '/open/{*rest}'
[[upstream.allow]]
methods = ['GET']
path = '/issue/{key}/watchers'
[[upstream.allow]]
methods = ['GET']
path = '/projects/{id}'
encoded_slash = true
[[upstream.allow]]
methods = ['GET']
path = '/projects/{id}/variables'
encoded_slash = true
[[upstream.deny]]
path = '/open/keys/{*rest}'
[[upstream.deny]]
methods = ['GET']
path = '/projects/{id}/variables'
";

#[tokio::test]
async fn no_request_of_the_corpus_gets_further_than_it_may() {
    let recorder = Recorder::start().await;
    let relay = TestRelay::start_with(RELAY).await;
    let upstream = format!(
        "[[upstream]]\nname = 'web'\nurl = 'http://{}'\n{RULES}",
        recorder.address()
    );
    let agent = TestAgent::start_with(&upstream).await;
    let code = relay.initiate("acme", "widgets").await;
    agent.accept(&code).await;
    relay.until_online(CONNECTION).await;
    let token = relay.token(None).await;

    let authority = relay.home().plain_authority();
    let cases = Corpus::read().cases();
    assert!(cases.len() >= AT_LEAST, "only {}", cases.len());
    let mut answers = Vec::with_capacity(cases.len());
    for (number, case) in cases.iter().enumerate() {
        let answer = match &case.sent {
            Sent::Bytes(text) => {
                let text = fill_in(text, number, &token, &authority);
                sender::send(&authority, text.as_bytes()).await
            }
            Sent::Http2 { head, body } => {
                let fill = |text: &String| fill_in(text, number, &token, &authority);
                let head: Vec<_> = head.iter().map(|(k, v)| (fill(k), fill(v))).collect();
                http2::send(&authority, &head, body.as_bytes()).await
            }
        };
        answers.push(answer);
    }
    // None of them cost the others their link.
    let link = agent.connection(CONNECTION).await.unwrap().link;
    assert_eq!((link.links_made, link.resumed), (1, 0), "{link:?}");
    // What was cut on its way may still be underway to the recorder.
    wait_until(
        "the upstream has seen the end of every request",
        async || recorder.is_at_rest(),
    )
    .await;

    let mut arrived: BTreeMap<usize, Vec<Arc<Arrived>>> = BTreeMap::new();
    let mut wrong = String::new();
    for request in recorder.take() {
        match request.case() {
            Some(case) if case < cases.len() => arrived.entry(case).or_default().push(request),
            _ => writeln!(wrong, "nobody's: {request:?}").unwrap(),
        }
    }
    for (number, (case, answer)) in cases.iter().zip(&answers).enumerate() {
        let arrived = arrived.remove(&number).unwrap_or_default();
        for complaint in judge(case, answer, &arrived, &recorder.address().to_string()) {
            writeln!(wrong, "{number} ({}): {complaint}", case.why).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A text of the corpus with what only this run knows.
fn fill_in(text: &str, number: usize, token: &str, authority: &str) -> String {
    let head = "Host: {relay}\r\nRelay-Authorization: Bearer {token}\r\nX-Case: {case}";
    text.replace("{head}", head)
        .replace("{web}", &format!("/c/{CONNECTION}/web"))
        .replace("{connection}", &format!("/c/{CONNECTION}"))
        .replace("{relay}", authority)
        .replace("{token}", token)
        .replace("{case}", &number.to_string())
}

/// What is wrong with what became of a case.
fn judge(case: &Case, answer: &[String], arrived: &[Arc<Arrived>], upstream: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if answer != case.answer {
        wrong.push(format!("answered {answer:?}, not {:?}", case.answer));
    }
    let lines: Vec<_> = arrived.iter().map(|request| request.line()).collect();
    // What is cut may have been cut before it came.
    let has_come = lines == case.arrives || lines.is_empty() && case.may_be_cut();
    if !has_come {
        wrong.push(format!("{lines:?} arrived, not {:?}", case.arrives));
    }
    for request in arrived {
        wrong.extend(request.complaints(upstream, &case.passes, &case.body));
    }
    wrong
}
