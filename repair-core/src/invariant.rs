//! What must hold after every event, by name.
