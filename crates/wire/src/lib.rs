//! Public message bodies: the shapes that people and programs outside send and get, versioned, and nothing else.
//!
//! **Nothing here does I/O, and no type of this crate goes further inside than the adapter that parsed it.** Conversions
//! are pure and lead to `eventflow-domain` only; an adapter makes the arguments of a port from them. The crate serves
//! both sides: the service reads requests and writes answers, agents and the command line the other way round.
//!
//! Start at [`v1`], the one version there is.

pub mod v1;
