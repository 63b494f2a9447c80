//! What the reading of a file rests on, piece by piece; whole files are read in `tests/file`, through the same door as
//! a user's.
