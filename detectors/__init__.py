"""Is it healthy: arithmetic only. Values come in, values go out; nothing here reads a clock or a socket."""
