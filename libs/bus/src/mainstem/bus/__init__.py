"""The event bus: publish, subscribe, create topics; the only code that names Kafka."""
