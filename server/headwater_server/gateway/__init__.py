"""The gateway: an OpenAI-compatible door to the language model, whose answers come with their attribution if asked."""
