//! Who is let in, how often, from which web pages, and what browsers are told.

mod admission;
mod browsers;
mod rate;

use crate::support::TestApp;

/// The value of one series in the metrics.
async fn metric(app: &TestApp, series: &str) -> u64 {
    let metrics = app.get("/metrics").await.answered(200).text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in {metrics}")).parse().unwrap()
}

async fn refused(app: &TestApp, class: &str, reason: &str) -> u64 {
    metric(app, &format!("rollcall_http_requests_refused_total{{class=\"{class}\",reason=\"{reason}\"}}"))
        .await
}
