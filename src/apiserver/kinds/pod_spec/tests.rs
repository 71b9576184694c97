//! Cases of pod specs, good and bad.
