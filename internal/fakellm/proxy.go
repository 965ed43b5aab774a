package fakellm

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Faults are what a proxy does to a call: drop the connection, never answer, cut the answer, or answer with a status.
var Faults = []string{"drop", "stall", "truncate", "500", "503"}

// Proxy passes calls on to a server, and breaks a share of the questions among them.
type Proxy struct {
	URL    string // after Start
	Target string // the server's address
	Share  float64
	Seed   uint64

	http  *http.Server
	ended sync.WaitGroup
	mu    sync.Mutex
	rand  *rand.Rand
	made  map[string]int
}

// Start listens on a port of 127.0.0.1.
func (p *Proxy) Start() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.URL, p.rand, p.made = "http://"+l.Addr().String(), rand.New(rand.NewPCG(p.Seed, 1)), map[string]int{}
	p.http = &http.Server{Handler: p}
	p.ended.Go(func() { _ = p.http.Serve(l) })
	return nil
}

// Close ends the proxy at once.
func (p *Proxy) Close() {
	p.http.Close()
	p.ended.Wait()
}

// Made counts the faults so far.
func (p *Proxy) Made() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]int{}
	for fault, n := range p.made {
		out[fault] = n
	}
	return out
}

// fault chooses what happens to a question; "" is nothing.
func (p *Proxy) fault() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rand.Float64() >= p.Share {
		return ""
	}
	fault := Faults[p.rand.IntN(len(Faults))]
	p.made[fault]++
	return fault
}

// ServeHTTP passes a call on, or breaks it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := ""
	if strings.Contains(r.URL.Path, "chat") {
		fault = p.fault()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch fault {
	case "drop":
		panic(http.ErrAbortHandler)
	case "stall":
		<-r.Context().Done()
		return
	case "500", "503":
		status, _ := strconv.Atoi(fault) // it is a number
		reply(w, status, map[string]any{"error": "made up by the proxy"})
		return
	}
	request, err := http.NewRequestWithContext(r.Context(), r.Method, p.Target+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		reply(w, 500, map[string]any{"error": err.Error()})
		return
	}
	request.Header = r.Header.Clone()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(response.StatusCode)
	if fault == "truncate" {
		_, _ = w.Write(text[:len(text)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(text) // the caller may be gone
}
