package llama
