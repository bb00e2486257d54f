"""The service beside the cameras: a page and an API for people, MQTT and webhooks for machines.

It lives in the camera process (`deploy.pipeline.Companion`) and keeps what it needs in the gallery's own file, so
that whoever is forgotten is forgotten here too, by whichever process.
"""
