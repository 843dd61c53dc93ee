//! What a repair did, for people and programs: `report.json` beside the original files.

use std::time::{SystemTime, UNIX_EPOCH};

use super::RepairPlan;
use crate::directory::quarantine::json_string;

/// The report, as JSON.
pub(super) fn report(plan: &RepairPlan) -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let files = plan.files.iter().map(|file| {
        format!(
            "\n  {{\"name\":{},\"action\":{},\"new_name\":{},\"bytes\":{},\"records\":{}}}",
            json_string(&file.name),
            json_string(file.action.as_str()),
            file.new_name
                .as_deref()
                .map_or("null".to_owned(), json_string),
            file.bytes,
            file.records,
        )
    });
    let missing = plan.missing.iter().map(|ids| {
        format!(
            "\n  {{\"first_id\":{},\"last_id\":{}}}",
            ids.start,
            ids.end - 1
        )
    });
    let findings = plan.verification.findings.iter().map(|finding| {
        format!(
            "\n  {{\"kind\":{},\"severity\":{},\"file\":{},\"offset\":{},\"length\":{},\
             \"events_lost\":{}}}",
            json_string(finding.kind.as_str()),
            json_string(finding.severity.as_str()),
            finding
                .file
                .as_deref()
                .map_or("null".to_owned(), json_string),
            finding.offset,
            finding.length,
            finding.events_lost,
        )
    });
    format!(
        "{{\"unix_time\":{seconds},\"records\":{},\"events\":{},\"events_lost\":{},\
         \"renumbered\":{},\n \"missing\":{},\n \"files\":{},\n \"findings\":{},\
         \"findings_omitted\":{}}}\n",
        plan.records,
        plan.events,
        plan.verification.events_lost,
        plan.renumber,
        list(missing.collect()),
        list(files.collect()),
        list(findings.collect()),
        plan.verification.findings_omitted,
    )
}
