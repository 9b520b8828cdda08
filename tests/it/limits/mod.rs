//! Who is let in, how often, from which web pages, and what browsers are told.

mod admission;
mod browsers;
mod rate;

use crate::support::TestApp;

async fn refused(app: &TestApp, class: &str, reason: &str) -> u64 {
    app.metric(&format!("rollcall_http_requests_refused_total{{class=\"{class}\",reason=\"{reason}\"}}"))
        .await
}
