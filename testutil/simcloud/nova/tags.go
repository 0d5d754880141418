package nova

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

var tagWord = regexp.MustCompile(`^[^,/]*$`)

func checkTag(i int, tag string) api.Answer {
	switch {
	case !tagWord.MatchString(tag):
		return api.Fail(400, "Invalid input for field/attribute %d. Value: %s. '%s' does not match '^[^,/]*$'", i, tag, tag)
	case len([]rune(tag)) > 60:
		return api.Fail(400, "Invalid input for field/attribute %d. Value: %s. '%s' is too long", i, tag, tag)
	case tag == "":
		return api.Fail(400, "Invalid input for field/attribute %d. Value: . '' is too short", i)
	}
	return api.Answer{}
}

func readTags(raw json.RawMessage) ([]string, api.Answer) {
	var tags []string
	if err := json.Unmarshal(raw, &tags); err != nil {
		return nil, api.Fail(400, "Invalid input for field/attribute tags. Value: %s. %s is not of type 'array'",
			api.Python(raw), api.Python(raw))
	}
	for i, t := range tags {
		if a := checkTag(i, t); a.Status != 0 {
			return nil, a
		}
	}
	if len(tags) > 50 {
		return nil, api.Fail(400, "Invalid input for field/attribute tags. Value: %s. %s is too long",
			api.Python(raw), api.Python(raw))
	}
	return slices.Compact(slices.Sorted(slices.Values(tags))), api.Answer{}
}

// taggable finds the server for /servers/ID/tags. A lock does not hold tags.
func taggable(s *model.State, q *api.Request) (*model.ServerRow, api.Answer) {
	if q.Version < 26 {
		return nil, api.Fail(404, "The resource could not be found.")
	}
	v := findServer(s, q)
	if v == nil {
		return nil, api.Fail(404, "Instance %s has no mapping to a cell.", q.Args[0])
	}
	return v, api.Answer{}
}

var taggableStates = []string{"active", "paused", "suspended", "stopped"}

func retag(v *model.ServerRow, verb string) api.Answer { return mustBeIn(v, verb, taggableStates...) }

// serverTags is /servers/ID/tags.
func serverTags(s *model.State, q *api.Request, now time.Time) api.Answer {
	var tags []string
	if q.Method == "PUT" {
		var in map[string]json.RawMessage
		if json.Unmarshal(q.Body, &in) != nil || in["tags"] == nil {
			return api.Fail(400, "'tags' is a required property")
		}
		var a api.Answer
		if tags, a = readTags(in["tags"]); a.Status != 0 {
			return a
		}
	}
	v, a := taggable(s, q)
	if v == nil {
		return a
	}
	switch q.Method {
	case "GET":
		return api.OK(map[string]any{"tags": model.TagsOf(v)})
	case "DELETE":
		if a := retag(v, "delete all tags"); a.Status != 0 {
			return a
		}
		v.Tags = nil
		s.NotifyServerUpdate(v, v, now, q.Who())
		return api.Done(204)
	}
	if a := retag(v, "update tags"); a.Status != 0 {
		return a
	}
	v.Tags = tags
	s.NotifyServerUpdate(v, v, now, q.Who())
	return api.OK(map[string]any{"tags": model.TagsOf(v)})
}

func serverTag(s *model.State, q *api.Request, now time.Time) api.Answer {
	v, a := taggable(s, q)
	if v == nil {
		return a
	}
	tag := q.Args[1]
	has := slices.Contains(v.Tags, tag)
	switch q.Method {
	case "GET":
		if !has {
			return api.Fail(404, "Server %s has no tag '%s'", v.ID, tag)
		}
		return api.Done(204)
	case "DELETE":
		if a := retag(v, "delete tag"); a.Status != 0 {
			return a
		}
		if !has {
			return api.Fail(404, "Instance %s has no tag '%s'", v.ID, tag)
		}
		v.Tags = slices.DeleteFunc(slices.Clone(v.Tags), func(t string) bool { return t == tag })
		s.NotifyServerUpdate(v, v, now, q.Who())
		return api.Done(204)
	}
	if a := checkTag(0, tag); a.Status != 0 {
		return a
	}
	if a := retag(v, "update tag"); a.Status != 0 {
		return a
	}
	if has {
		return api.Done(204)
	}
	v.Tags = slices.Sorted(slices.Values(append(slices.Clone(v.Tags), tag)))
	s.NotifyServerUpdate(v, v, now, q.Who())
	return api.Answer{Status: 201, Header: map[string]string{"Location": s.Options.Base + api.ComputePath +
		"/servers/" + v.ID + "/tags/" + url.PathEscape(tag)}}
}
