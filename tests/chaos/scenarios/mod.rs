//! The stories that are played, one after the other, each on a cluster of its own.

mod freeze;
mod health;
mod late;
mod mix;
mod promotion;
mod silence;

use std::{fs, path::Path};

use crate::{cluster::Cluster, options::Options, report::Report, seeded};

pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    if !options.long && options.only.is_none() {
        report.begin("bugs");
        report.check("each known bug can still be put into the sources", &seeded::stale());
    }
    if options.runs("mix") {
        mix::play(options, report).await?;
    }
    if options.runs("promotion") {
        promotion::play(options, report).await?;
    }
    if options.runs("freeze") {
        freeze::play(options, report).await?;
    }
    if options.runs("silence") {
        silence::play(options, report).await?;
    }
    if options.runs("health") {
        health::play(options, report).await?;
    }
    if options.runs("late") {
        late::play(options, report).await?;
    }
    Ok(())
}

/// What the replicas wrote is kept where a run has failed.
fn keep_logs(options: &Options, report: &mut Report, cluster: &Cluster, scenario: &str) {
    if !report.has_failed_here() && !options.keep {
        return;
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{scenario}-{}", options.seed));
    let copied = fs::create_dir_all(&place).and_then(|()| {
        for file in cluster.log_files().iter().chain(&[cluster.database.log_file()]) {
            fs::copy(file, place.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(())
    });
    match copied {
        Ok(()) => report.say(&format!("the logs are kept in {}", place.display())),
        Err(error) => report.say(&format!("the logs could not be kept: {error}")),
    }
}
