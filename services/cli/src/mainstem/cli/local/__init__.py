"""The local platform: Apache Kafka, PostgreSQL and the services as child processes of one supervisor, on loopback."""
