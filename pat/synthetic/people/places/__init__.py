"""Where people are seen: procedural streets, plazas, stations and shops, rendered once a camera."""
