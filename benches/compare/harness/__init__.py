"""Parts of `benches/compare/run`: outrider beside Envoy, HAProxy and nginx on one machine."""
