// Package settings holds what an operator decides: instances with their access keys and identity choice, and
// each instance's hubs with their ordered event handlers.
//
// A developer who changes a hub's handler expects the very next event of every live connection to obey, and an
// operator who mistypes a template expects to hear which field is wrong, at once, with nothing changed. So every
// write goes through one validation that names all faults, is a compare-and-swap on the stored document, and
// publishes a new immutable [Snapshot] that readers load without a lock.
//
// What it leaves to others: durability and sealing (store), who the identities are (directory), HTTP (arm).
package settings
