//! Which disks may serve which index.
