//! How near an extent is to loss, by what its code really decodes.
