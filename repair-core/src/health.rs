//! Who is alive: beats in, suspicion and loss out, by injected time.
