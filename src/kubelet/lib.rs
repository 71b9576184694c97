//! Runs the pods of one node and reports on them.
