//! What is asked: requests as they stand on the wire.

use std::io::Write as _;

/// An instance like many. Without checks, so that it is found at once and nobody asks it for its health.
pub fn registration(service: u64, instance: u64) -> String {
    let (high, low) = (instance >> 8 & 255, instance & 255);
    format!(
        r#"{{"name":"service-{service:06}","type":"api","host":"10.{}.{high}.{low}","port":{},"metadata":{{"version":"1.4.2","environment":"production","region":"eu-west-1","tags":{{"team":"payments","tier":"gold"}}}},"health_check_endpoint":"/health","checks":[]}}"#,
        instance >> 16 & 255,
        8000 + instance % 1000,
    )
}

pub fn get(path: &str, into: &mut Vec<u8>) {
    write!(into, "GET {path} HTTP/1.1\r\nHost: registry\r\n\r\n").expect("memory can be written");
}

/// The same from one who shows a token.
pub fn get_with_token(path: &str, token: &str, into: &mut Vec<u8>) {
    write!(into, "GET {path} HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer {token}\r\n\r\n")
        .expect("memory can be written");
}

pub fn post(path: &str, body: &str, into: &mut Vec<u8>) {
    write!(
        into,
        "POST {path} HTTP/1.1\r\nHost: registry\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("memory can be written");
}

/// Spreads requests over many services in an order that no cache foresees.
pub fn spread(number: u64, over: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % over
}
