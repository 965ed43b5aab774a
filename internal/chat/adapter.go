package chat

import (
	llama "github.com/go-skynet/go-llama.cpp"
)

// Adapter is a LoRA adapter in a GGUF file, and how strongly it acts: 1 as it was trained, 0 not at all.
type Adapter struct {
	Path  string
	Scale float32
}

// loadAdapters loads the adapters and has the context apply them.
func (s *Session) loadAdapters() error {
	var scaled []llama.AdapterScale
	for _, a := range s.options.Adapters {
		loaded, err := s.model.LoadAdapter(a.Path)
		if err != nil {
			return err
		}
		s.adapters = append(s.adapters, loaded)
		scaled = append(scaled, llama.AdapterScale{Adapter: loaded, Scale: a.Scale})
	}
	if len(scaled) == 0 {
		return nil
	}
	return s.context.SetAdapters(scaled)
}
