package gen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/persona"
)

// answered is what a call brought for one job.
type answered struct {
	text  string // what goes into the journal
	gist  string // what the next calls are told
	whole string // what is compared with others
	turns int
	row   journal.Row
}

// work asks until nothing is left, ctx ends, or an error ends the run.
func (r *run) work(ctx context.Context) error {
	if r.done == len(r.plan.jobs) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	most, _ := r.pool.size()
	var wg sync.WaitGroup
	for range min(most, len(r.queue.ready)) {
		wg.Go(func() {
			if err := r.worker(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// worker takes one call after the other. An engine is got before the call, so that its prompt knows of all that was
// answered while it waited.
func (r *run) worker(ctx context.Context) error {
	for {
		s, err := r.pool.acquire(ctx)
		if err != nil {
			return err
		}
		c := r.queue.next(ctx)
		if c == nil {
			r.pool.release(s, engine.Reply{}, &engine.Error{})
			return ctx.Err()
		}
		again, err := r.ask(ctx, s, c)
		r.queue.done(again)
		if err != nil {
			return err
		}
		r.report()
	}
}

// ask makes a call and writes down what it brought. It gives the call again if it is to be repeated.
func (r *run) ask(ctx context.Context, s *slot, c *call) (*call, error) {
	o := &r.o
	r.mu.Lock()
	stopped, known := c.group.stopped, append([]string(nil), c.group.known...)
	why := fmt.Sprintf("generation stopped: %d of %d answers were near-duplicates", c.group.duplicates, c.group.answered)
	r.mu.Unlock()
	if stopped {
		r.pool.release(s, engine.Reply{}, &engine.Error{})
		return nil, r.giveUp(c, reasonDuplicate, why)
	}
	text, err := o.render(c.group, c.jobs, known)
	if err != nil {
		r.pool.release(s, engine.Reply{}, &engine.Error{})
		return nil, err
	}
	c.attempt++
	request := o.request(text, len(c.jobs), r.numCtx, seed(o.Sampling.Seed, c.jobs[0].key, c.attempt))
	callCtx, cancel := context.WithTimeout(ctx, o.Timeout)
	reply, err := s.Chat(callCtx, request)
	cancel()
	var failed *engine.Error
	if err != nil && !errors.As(err, &failed) {
		failed = &engine.Error{}
	}
	r.pool.release(s, reply, failed)
	if err != nil {
		return r.fault(ctx, c, request, reply, err)
	}
	row := journal.Row{
		Run: r.plan.run, Group: c.group.id, Attempt: c.attempt, DoneReason: reply.DoneReason, Model: o.Model, Format: o.Format,
		Options: json.RawMessage(mustJSON(request.Options)), Seed: request.Options.Seed, PromptSHA256: promptHash(request), Prompt: text,
		At: o.Now().UTC(), DurationMS: reply.Duration.Milliseconds(), PromptTokens: reply.PromptTokens, Tokens: reply.Tokens,
	}
	return r.take(c, row, reply)
}

// fault deals with a call that brought no answer.
func (r *run) fault(ctx context.Context, c *call, request engine.Request, reply engine.Reply, err error) (*call, error) {
	var failed *engine.Error
	if ctx.Err() != nil || !errors.As(err, &failed) {
		return nil, err // the end, or what no repetition changes
	}
	if failed.Down { // no fault of this call: it waits until somebody is there
		c.attempt--
		return c, nil
	}
	c.try(failed.Reason, failed.Error(), request, reply)
	if c.failed++; c.failed >= r.o.ServerTries {
		return nil, r.giveUp(c, failed.Reason, failed.Error())
	}
	c.notBefore = time.Now().Add(r.backoff(c))
	return c, nil
}

// backoff is how long a call waits before it is made again: twice as long every time, and not all at once.
func (r *run) backoff(c *call) time.Duration {
	wait := r.o.Backoff << min(c.failed-1, 6)
	return min(wait, time.Minute)/2 + time.Duration(unit("wait", c.jobs[0].key, fmt.Sprint(c.attempt))*float64(min(wait, time.Minute)/2))
}

// try keeps what is known of a call that was in vain.
func (c *call) try(reason, detail string, request engine.Request, reply engine.Reply) {
	const begin = 400
	answer := reply.Content
	if runes := []rune(answer); len(runes) > begin {
		answer = string(runes[:begin]) + "…"
	}
	c.lastRefused = reason
	c.tries = append(c.tries, journal.Try{
		Reason: reason, Detail: detail, DoneReason: reply.DoneReason, Seed: request.Options.Seed, PromptSHA256: promptHash(request),
		DurationMS: reply.Duration.Milliseconds(), PromptTokens: reply.PromptTokens, Tokens: reply.Tokens, Answer: answer,
	})
}

// take reads an answer, gives the jobs what is good of it, and says what is to be asked again.
func (r *run) take(c *call, row journal.Row, reply engine.Reply) (*call, error) {
	c.failed = 0
	found, reason, detail := r.read(c, reply)
	for i := range found {
		found[i].row = row
	}
	if reason == reasonTruncated && len(found) == 1 && r.o.Kind != prompt.Scene {
		if c.best == nil || found[0].turns > c.best.turns {
			c.best = &found[0]
		}
		found = nil
	}
	rows, left, refused := r.accept(c, found)
	if refused != "" {
		reason, detail = refused, ""
	}
	if err := r.write(rows); err != nil {
		return nil, err
	}
	if len(left) == 0 {
		return nil, nil
	}
	c.jobs = left
	if reason == "" {
		reason = reasonMissing
	}
	c.try(reason, detail, engine.Request{Messages: []engine.Message{{Role: "user", Content: row.Prompt}}, Options: engine.Options{Seed: row.Seed}}, reply)
	if len(rows) > 0 {
		c.bad = 0 // it goes on: what is missing is asked for again
		return c, nil
	}
	if c.bad++; c.bad < r.o.Tries {
		return c, nil
	}
	if c.best != nil { // complete turns of a dialogue that never came to its end
		best := *c.best
		if rows, left, _ := r.accept(c, []answered{best}); len(left) == 0 {
			return nil, r.write(rows)
		}
	}
	return nil, r.giveUp(c, reason, detail)
}

// read finds the usable parts of an answer, and the reason for which the others are not.
func (r *run) read(c *call, reply engine.Reply) (found []answered, reason, detail string) {
	o := &r.o
	if !hasLetter(reply.Content) {
		return nil, reasonEmpty, fmt.Sprintf("got %d bytes", len(reply.Content))
	}
	if o.Kind == prompt.Scene {
		found, reason, detail = r.readScenes(c, reply)
	} else {
		found, reason, detail = r.readDialogue(c.jobs[0].kind, reply)
	}
	if reason == reasonSchema && (reply.DoneReason == engine.Aborted || degenerate(reply.Content)) {
		reason = reasonRepetition // which is why it has no form
	}
	return found, reason, detail
}

func (r *run) readDialogue(kind string, reply engine.Reply) (found []answered, reason, detail string) {
	o := &r.o
	d, whole := o.decode(o.Format, reply.Content, reply.DoneReason)
	switch {
	case isTruncated(reply.DoneReason):
		reason = reasonTruncated
	case !whole || len(d.Turns) == 0:
		return nil, reasonSchema, ""
	}
	if bad := o.checkDialogue(&d, kind); bad != "" {
		if reason == "" {
			reason = bad
		}
		return nil, reason, ""
	}
	a := answered{text: reply.Content, turns: len(d.Turns)}
	a.whole, a.gist = o.dialogueTexts(&d)
	return []answered{a}, reason, ""
}

// decode reads a dialogue in one of the formats. whole tells that nothing of it is missing or of another form.
func (o *Options) decode(format, answer, doneReason string) (d dialogue, whole bool) {
	if format == Text {
		return readText(o.Card, answer, doneReason)
	}
	return decodeDialogue(answer)
}

// dialogueTexts gives the text of a dialogue that others are compared with, and what they are told of it: what the
// user says first.
func (o *Options) dialogueTexts(d *dialogue) (whole, gist string) {
	for _, t := range d.Turns {
		whole += t.Content + "\n"
		if who, ok := o.Card.Speaker(t.Role); gist == "" && ok && who.Kind == persona.Visitor {
			gist = clip(t.Content)
		}
	}
	return whole, gist
}

// sceneTexts is the same for a scene.
func sceneTexts(s *journal.Scene) (whole, gist string) {
	return s.Location + " " + s.Background, clip(s.Location + ": " + s.Background)
}

func (r *run) readScenes(c *call, reply engine.Reply) (found []answered, reason, detail string) {
	o := &r.o
	scenes, whole := decodeScenes(reply.Content)
	if o.Format == Text {
		scenes, whole = readTextScenes(o.Card, reply.Content, reply.DoneReason), true
	}
	switch {
	case isTruncated(reply.DoneReason):
		reason = reasonTruncated
	case !whole || len(scenes) == 0:
		reason = reasonSchema
	}
	for i := range scenes[:min(len(scenes), len(c.jobs))] {
		s := &scenes[i]
		if bad := o.checkScene(s); bad != "" {
			if reason == "" {
				reason = bad
			}
			continue
		}
		a := answered{text: mustJSON(s)}
		a.whole, a.gist = sceneTexts(s)
		found = append(found, a)
	}
	return found, reason, detail
}

// accept gives answers to the jobs of a call, unless others have nearly the same. It gives the rows to be written and
// the jobs that are left.
func (r *run) accept(c *call, found []answered) (rows []*journal.Row, left []*job, refused string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left = c.jobs
	for i := range found {
		a := &found[i]
		j := left[0]
		c.group.answered++
		if r.index != nil {
			if _, ok := r.index.Add(j.key, a.whole); !ok {
				c.group.duplicates++
				refused = reasonDuplicate
				if c.group.answered >= minAnswered && float64(c.group.duplicates) > r.o.MaxDuplicates*float64(c.group.answered) {
					c.group.stopped = true
				}
				continue
			}
		}
		left = left[1:]
		row := a.row
		row.Key, row.Kind, row.Ordinal, row.Answer, row.Tries = j.key, j.kind, j.ordinal, a.text, c.tries
		row.Scene = c.group.scene
		if c.group.scene == nil {
			row.Profile = c.group.text
		}
		row.Call = j.key[:8] + fmt.Sprint("-", row.Attempt)
		if i > 0 {
			row.Call = rows[0].Call
			row.Tries = nil
		}
		rows = append(rows, &row)
		c.group.know(a.gist)
	}
	return rows, left, refused
}

// minAnswered is how many answers of a scene are compared before its share of near-duplicates counts.
const minAnswered = 6

func (g *group) know(gist string) {
	if gist == "" {
		return
	}
	if len(g.known) >= maxKnown {
		g.known = append(g.known[:0:0], g.known[1:]...)
	}
	g.known = append(g.known, gist)
}

// write puts successes into the journal; they count once it has them.
func (r *run) write(rows []*journal.Row) error {
	if len(rows) == 0 {
		return nil
	}
	if err := r.journal.Append(rows...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range rows {
		r.count(row)
		r.fresh++
	}
	return nil
}

// giveUp writes the failure of every job that a call has left.
func (r *run) giveUp(c *call, reason, detail string) error {
	var rows []*journal.Row
	for _, j := range c.jobs {
		row := &journal.Row{
			Key: j.key, Run: r.plan.run, Kind: j.kind, Group: c.group.id, Ordinal: j.ordinal, Attempt: c.attempt, Reason: reason, Detail: detail,
			Model: r.o.Model, Format: r.o.Format, At: r.o.Now().UTC(), Tries: c.tries,
		}
		if n := len(c.tries); n > 0 {
			last := c.tries[n-1]
			row.DoneReason, row.Seed, row.PromptSHA256 = last.DoneReason, last.Seed, last.PromptSHA256
			row.DurationMS, row.PromptTokens, row.Tokens = last.DurationMS, last.PromptTokens, last.Tokens
		}
		rows = append(rows, row)
	}
	if err := r.journal.Append(rows...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed += len(rows)
	r.reasons[reason] += len(rows)
	return nil
}

// report tells the caller how far it is.
func (r *run) report() {
	_, now := r.pool.size()
	r.mu.Lock()
	p := Progress{Done: r.done, Jobs: len(r.plan.jobs), Failed: r.failed, Parallel: now}
	r.mu.Unlock()
	r.o.Progress(p)
}
