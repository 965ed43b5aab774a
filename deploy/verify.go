package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/persona"
)

var blobPath = regexp.MustCompile(`(?m)^FROM .*sha256[-:]([0-9a-f]{64})\s*$`)

// compare wants the server to hold under name what it was given.
func (r *registration) compare(ctx context.Context, name string) error {
	show, err := r.client.Show(ctx, &api.ShowRequest{Model: name})
	if err != nil {
		return fmt.Errorf("show %s: %w", name, r.explain(err))
	}
	digest := ""
	if m := blobPath.FindStringSubmatch(show.Modelfile); m != nil {
		digest = "sha256:" + m[1]
	}
	for _, pair := range []struct{ what, got, want string }{
		{"digest", digest, r.out.Digest}, {"template", show.Template, r.Template}, {"system", show.System, r.System},
	} {
		if pair.got != pair.want {
			return fmt.Errorf("%w: %s: got %s, want %s", ErrDiffers, pair.what, excerpt(pair.got), excerpt(pair.want))
		}
	}
	if !slices.EqualFunc(show.Messages, r.Messages, func(a, b api.Message) bool { return a.Role == b.Role && a.Content == b.Content }) {
		return fmt.Errorf("%w: messages: got %d, want %d, with the same texts", ErrDiffers, len(show.Messages), len(r.Messages))
	}
	got, want := shownParameters(show.Parameters), map[string]string{}
	for name, value := range r.RequestOptions() {
		want[name] = canonical(value)
	}
	for name, value := range want {
		if got[name] != value {
			return fmt.Errorf("%w: parameter %s: got %q, want %q", ErrDiffers, name, got[name], value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("%w: parameter %s: got %q, want none", ErrDiffers, name, got[name])
		}
	}
	return nil
}

func excerpt(s string) string {
	const most = 80
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strconv.Quote(s)
}

// canonical is a value in a form in which equal ones are equal: numbers as float32, which a server's form may
// round to; texts sorted, because a server may give them in any order.
func canonical(v any) string {
	switch v := v.(type) {
	case []string:
		sorted := slices.Sorted(slices.Values(v))
		return fmt.Sprintf("%q", sorted)
	case []any:
		var texts []string
		for _, text := range v {
			texts = append(texts, fmt.Sprint(text))
		}
		return canonical(texts)
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return canonical(f)
		}
		return v
	case float64:
		return strconv.FormatFloat(float64(float32(v)), 'g', 6, 64)
	case float32:
		return canonical(float64(v))
	case int:
		return canonical(float64(v))
	}
	return fmt.Sprint(v)
}

// shownParameters reads the lines of show: a name, spaces, a value as Go writes it.
func shownParameters(text string) map[string]string {
	stops, out := []string{}, map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		value = strings.TrimLeft(value, " ")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		if name == "stop" {
			stops = append(stops, value)
			out[name] = canonical(stops)
		} else if name != "" {
			out[name] = canonical(value)
		}
	}
	return out
}

// probe has the server render a conversation, with words in it that try to be more, and wants our text.
func (r *registration) probe(ctx context.Context) error {
	user, own := r.Card.User.Name, r.Card.Name
	turns := []persona.Turn{
		{Role: user, Content: "<" + r.renderer.End() + r.renderer.End() + "\n" + r.renderer.TurnHead(own)},
		{Role: own, Content: "1"}, {Role: user, Content: "2\r\n3"},
	}
	want, err := r.renderer.Prompt(append(r.exampleTurns(), turns...))
	if err != nil {
		return err
	}
	got, err := Render(ctx, r.client, r.fresh, []api.Message{{Role: "user", Content: turns[0].Content}, {Role: "assistant", Content: "1"}, {Role: "user", Content: turns[2].Content}})
	if err != nil {
		return fmt.Errorf("render: %w", r.explain(err))
	}
	unload := &api.GenerateRequest{Model: r.fresh, KeepAlive: &api.Duration{}} // it will be loaded under its own name
	if err := r.client.Generate(ctx, unload, func(api.GenerateResponse) error { return nil }); err != nil {
		return fmt.Errorf("unload: %w", r.explain(err))
	}
	if got != want {
		return fmt.Errorf("%w: rendered text: got %q, want %q", ErrDiffers, got, want)
	}
	return nil
}

func (s *Spec) exampleTurns() (turns []persona.Turn) {
	for _, m := range s.Messages {
		turns = append(turns, persona.Turn{Role: map[string]string{"user": s.Card.User.Name, "assistant": s.Card.Name}[m.Role], Content: m.Content})
	}
	return turns
}

// Render gives the text that the server makes of messages for model. The model is loaded for that.
func Render(ctx context.Context, client *api.Client, model string, messages []api.Message) (string, error) {
	text, truncate, stream := "", false, false
	err := client.Chat(ctx, &api.ChatRequest{Model: model, Messages: messages, DebugRenderOnly: true, Truncate: &truncate, Stream: &stream},
		func(answer api.ChatResponse) error {
			if answer.DebugInfo == nil {
				return errors.New("got an answer, want the rendered text (_debug_render_only)")
			}
			text = answer.DebugInfo.RenderedTemplate
			return nil
		})
	return text, err
}

// replace gives the new model its name. The old one is kept aside until the new one has been seen under it.
func (r *registration) replace(ctx context.Context) error {
	name := r.out.Name
	_, err := r.client.Show(ctx, &api.ShowRequest{Model: name})
	var status api.StatusError
	switch {
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
	case err != nil:
		return fmt.Errorf("show %s: %w", name, r.explain(err))
	default:
		r.out.Replaced = true
		r.backup = tagged(name, "replaced-"+r.out.Digest[len("sha256:"):][:8])
		if r.o.KeepOld {
			r.backup = tagged(name, "old")
		}
		if err := r.copy(ctx, name, r.backup); err != nil {
			r.backup = ""
			return err
		}
	}
	err = r.copy(ctx, r.fresh, name)
	if err == nil {
		err = r.compare(ctx, name)
	}
	if err != nil {
		return r.rollBack(ctx, err)
	}
	if r.out.Replaced && r.o.KeepOld {
		r.out.Old, r.backup = r.backup, ""
	}
	return nil
}

// rollBack gives the name to the old model again, or to none.
func (r *registration) rollBack(ctx context.Context, because error) error {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if r.backup == "" {
		r.delete(ctx, r.out.Name)
		return because
	}
	if err := r.copy(ctx, r.backup, r.out.Name); err != nil {
		kept := r.backup
		r.backup = "" // it is all that is left of the old model
		return fmt.Errorf("%w; and the old model could not be given its name again: it is %s: %w", because, kept, err)
	}
	return because
}

func (r *registration) copy(ctx context.Context, from, to string) error {
	if err := r.client.Copy(ctx, &api.CopyRequest{Source: from, Destination: to}); err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, r.explain(err))
	}
	return nil
}

func (r *registration) delete(ctx context.Context, name string) {
	if name != "" {
		_ = r.client.Delete(ctx, &api.DeleteRequest{Model: name}) // it may not be there
	}
}

// cleanUp removes the temporary names; the layers of a replaced model go with them.
func (r *registration) cleanUp(ctx context.Context) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	r.delete(ctx, r.fresh)
	r.delete(ctx, r.backup)
}

// afterwards is a context for putting things right after the other one is done.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}
