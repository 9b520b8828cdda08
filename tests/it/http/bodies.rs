//! Bodies that are no JSON, are not what they say, or are JSON that nobody means.

use super::cases::Then::{Either, Open};
use super::cases::{Case, case, run};

const BAD: &[u16] = &[400];
const TAKEN: &[u16] = &[200, 201];

fn put(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("PUT /api/v1/config/bodied", head, body.as_ref())
}

/// Names and values enough that whoever compares each with each would notice.
fn many_names() -> String {
    let names: Vec<String> = (0..50_000).map(|n| format!("\"{n}\":0,")).collect();
    names.concat()
}

fn request(line: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\n{head}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const JSON: &str = "content-type: application/json\r\n";

const NO_JSON: &[&str] = &[
    "",
    " ",
    "\r\n",
    "\0",
    "{",
    "}",
    "[",
    "]",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{,}",
    "{:1}",
    "{\"a\" 1}",
    "{a:1}",
    "{'a':1}",
    "{\"a\":'b'}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1;\"b\":2}",
    "{\"a\":\"b}",
    "{\"a\":\"\\x\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\\u{41}\"}",
    "{\"a\":\"\t\"}",
    "{\"a\":\"\n\"}",
    "{\"a\":\"\0\"}",
    "{\"a\":NaN}",
    "{\"a\":nan}",
    "{\"a\":Infinity}",
    "{\"a\":-Infinity}",
    "{\"a\":undefined}",
    "{\"a\":True}",
    "{\"a\":nul}",
    "{\"a\":+1}",
    "{\"a\":01}",
    "{\"a\":.5}",
    "{\"a\":1.}",
    "{\"a\":1e}",
    "{\"a\":0x10}",
    "{\"a\":1_000}",
    "{\"a\":--1}",
    "{\"a\":1e999}",
    "{\"a\":-1e999}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\udc00\"}",
    "{\"a\":\"\\ud800\\ud800\"}",
    "{\"a\":\"\\ud800x\"}",
    "{\"\\ud800\":1}",
    "{} {}",
    "{}{}",
    "{}x",
    "{}\0",
    "{}//",
    "{/**/}",
    "// \n{}",
    "#\n{}",
    "\u{feff}{}",
    "\x0b{}",
    "\x0c{}",
    "\u{a0}{}",
    "{\"a\":\"\\u0000\"}",
    "{\"\\u0000\":1}",
    "null",
    "true",
    "1",
    "\"x\"",
    "[]",
    "[{}]",
    "a=b&c=d",
    "<a/>",
    "--- {}",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_json_is_refused() {
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
    let utf_16 = |text: &str, big: bool| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let mut cases: Vec<Case> =
        NO_JSON.iter().map(|bad| case(&format!("{bad:?}"), put(JSON, bad), &[BAD], Open)).collect();
    for (what, body) in [
        ("arrays, ten thousand deep", format!("{{\"a\":{}}}", nested("[", "]"))),
        ("objects, ten thousand deep", nested("{\"a\":", "}")),
        ("both", format!("{{\"a\":{}}}", nested("[{\"a\":", "}]"))),
        ("only opened", "[".repeat(100_000)),
        ("only closed", "]".repeat(100_000)),
        ("closed by the other", format!("{{\"a\":{}{}}}", "[".repeat(30), "}".repeat(30))),
        ("a quote without an end", format!("{{\"a\":\"{}", "\\\"".repeat(10_000))),
    ] {
        cases.push(case(what, put(JSON, body), &[BAD], Open));
    }
    for (what, body) in [
        ("no UTF-8", b"{\"a\":\"\xff\"}".to_vec()),
        ("no UTF-8 in a name", b"{\"\xfe\":1}".to_vec()),
        ("an overlong slash", b"{\"a\":\"\xc0\xaf\"}".to_vec()),
        ("an overlong zero", b"{\"a\":\"\xc0\x80\"}".to_vec()),
        ("a surrogate in UTF-8", b"{\"a\":\"\xed\xa0\x80\"}".to_vec()),
        ("beyond Unicode", b"{\"a\":\"\xf4\x90\x80\x80\"}".to_vec()),
        ("half a letter", b"{\"a\":\"\xe2\x82\"}".to_vec()),
        ("little UTF-16", utf_16("{}", false)),
        ("big UTF-16", utf_16("{}", true)),
        ("UTF-16 without its mark", b"{\0}\0".to_vec()),
        ("UTF-32", b"{\0\0\0}\0\0\0".to_vec()),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0".to_vec()),
        ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec()),
    ] {
        cases.push(case(what, put(JSON, body), &[BAD], Open));
    }
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_json_is_taken_or_refused_and_harms_nobody() {
    let register = |body: &str| request("POST /api/v1/services/register", JSON, body.as_bytes());
    let instance = |fields: &str| {
        register(&format!(
            "{{\"name\":\"odd\",\"type\":\"api\",\"host\":\"h\",\"port\":80,\"checks\":[],{fields}}}"
        ))
    };
    let batch = |body: &str| request("POST /api/v1/services/register/batch", JSON, body.as_bytes());
    let (either, long): (&[u16], String) = (&[200, 201, 400, 413], "9".repeat(400));
    let mut cases = Vec::new();
    for body in [
        "{\"a\":1,\"a\":2}".to_owned(),
        "{\"a\":{\"b\":1,\"b\":[]}}".to_owned(),
        "{\"\":1}".to_owned(),
        "{\"__proto__\":{\"x\":1}}".to_owned(),
        "{\"a\":-0}".to_owned(),
        "{\"a\":1e308}".to_owned(),
        "{\"a\":1e-999}".to_owned(),
        "{\"a\":18446744073709551616}".to_owned(),
        "{\"a\":\"\\ud83d\\ude00\\u202e\"}".to_owned(),
        "{\"a\":\"\\uffff\u{7f}\"}".to_owned(),
        format!("{{\"a\":{long}}}"),
        format!("{{\"a\":0.{long}}}"),
        format!("{{\"a\":1e{long}}}"),
        format!("{{\"{}\":1}}", "k".repeat(500_000)),
        format!("{{\"a\":[{}0]}}", "0,".repeat(400_000)),
        format!("{{{}\"z\":0}}", many_names()),
        format!("{}{{}}", " ".repeat(500_000)),
        format!("{{\"a\":{}1{}}}", "[".repeat(31), "]".repeat(31)),
    ] {
        let what: String = body.chars().take(40).collect();
        cases.push(case(&what, put(JSON, body), &[either], Open));
    }
    for fields in [
        "\"port\":1",
        "\"port\":80.0",
        "\"port\":8e1",
        "\"port\":\"80\"",
        "\"port\":-1",
        "\"port\":65536",
        "\"port\":null",
        "\"port\":1e400",
        "\"name\":\"\"",
        "\"name\":\"\\u0000\"",
        "\"name\":\"\\ud83d\\ude00\"",
        "\"name\":[]",
        "\"host\":\" \"",
        "\"host\":\"a\\nb\"",
        "\"host\":{}",
        "\"weight\":1e308",
        "\"weight\":-0.0",
        "\"metadata\":[]",
        "\"metadata\":{\"tags\":1}",
        "\"checks\":[{\"kind\":\"http\",\"url\":\"file:///etc/passwd\"}]",
        "\"health_check_endpoint\":\"http://\"",
        "\"key\":\"\\u0001\"",
        "\"topics\":[null]",
        "\"dependencies\":{\"a\":\"b\"}",
        "\"x\":{}",
    ] {
        cases.push(case(fields, instance(fields), &[either], Open));
    }
    for (what, body) in [
        ("a batch that is none", "{}".to_owned()),
        ("a batch of nothing", "[]".to_owned()),
        ("a batch of nulls", "[null,1,\"x\",[],{}]".to_owned()),
        ("too large a batch", format!("[{}1]", "1,".repeat(2_000))),
    ] {
        cases.push(case(what, batch(&body), &[either], Open));
    }
    cases.push(case(
        "above a mebibyte",
        put(JSON, format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20))),
        &[&[413]],
        Open,
    ));
    run(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_what_it_says() {
    let mut cases = Vec::new();
    for head in [
        "",
        "content-type:\r\n",
        "content-type: text/plain\r\n",
        "content-type: application/jsonx\r\n",
        "content-type: application/json, text/plain\r\n",
        "content-type: application\r\n",
        "content-type: json\r\n",
        "content-type: */*\r\n",
        "content-type: text/json\r\n",
        "content-type: application/xml\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: multipart/form-data; boundary=x\r\n",
        "content-type: \u{e9}\r\n",
        "content-type: ;\r\n",
        "content-type: text/plain\r\ncontent-type: application/json\r\n",
    ] {
        cases.push(case(&format!("{head:?}"), put(head, "{}"), &[&[415]], Either));
    }
    for coding in ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, identity", "cow", "", "GZIP"]
    {
        let head = format!("{JSON}content-encoding: {coding}\r\n");
        cases.push(case(&format!("in {coding:?}"), put(&head, "{}"), &[&[415]], Either));
    }
    for head in [
        "content-type: application/json; charset=utf-8\r\n",
        "content-type: APPLICATION/JSON\r\n",
        "content-type: application/json;\r\n",
        "content-type: application/json; x=\"\r\n",
        "content-type: application/json\r\ncontent-encoding: identity\r\n",
    ] {
        cases.push(case(&format!("{head:?}"), put(head, "{}"), &[TAKEN], Open));
    }
    run(cases).await;
}
