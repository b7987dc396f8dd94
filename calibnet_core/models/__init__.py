"""Networks. `build.build_model` turns a name or a configuration into one."""
