package openstack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// FromEnv reads the OS_* variables that an openrc file sets, or, where OS_CLOUD
// is set, that cloud of clouds.yaml (OS_CLIENT_CONFIG_FILE, ./, ~/.config/openstack
// or /etc/openstack, with secure.yaml beside it). Beside OS_CLOUD,
// OS_PASSWORD, OS_REGION_NAME, OS_INTERFACE, OS_CACERT, OS_CERT, OS_KEY and
// OS_INSECURE win over the file, so that a password can come from a secret store.
// A variable that is set but empty counts as not set. lookup is [os.LookupEnv]
// where nil.
//
// It returns what cannot be read at all; what does not fit together is
// [Options.Check]'s to say.
func FromEnv(lookup func(name string) (string, bool)) (Options, error) {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	get := func(names ...string) string {
		for _, n := range names {
			if v, ok := lookup(n); ok && v != "" {
				return v
			}
		}
		return ""
	}
	insecure, err := insecure(get("OS_INSECURE"))
	if err != nil {
		return Options{}, err
	}
	if get("OS_CLOUD") != "" {
		return fromFile(get, insecure)
	}

	var complaints []error
	o := Options{
		Region:    get("OS_REGION_NAME"),
		Interface: interfaceName(get("OS_INTERFACE", "OS_ENDPOINT_TYPE")),
		Auth: gophercloud.AuthOptions{
			IdentityEndpoint:            get("OS_AUTH_URL"),
			Username:                    get("OS_USERNAME"),
			UserID:                      get("OS_USER_ID"),
			Password:                    get("OS_PASSWORD"),
			TokenID:                     get("OS_TOKEN", "OS_AUTH_TOKEN"),
			ApplicationCredentialID:     get("OS_APPLICATION_CREDENTIAL_ID"),
			ApplicationCredentialName:   get("OS_APPLICATION_CREDENTIAL_NAME"),
			ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
		},
	}
	// As python-openstackclient does: the domain with the id default, unless told.
	if o.Auth.UserID != "" {
		o.Auth.Username = "" // an id needs no name, and gophercloud refuses both
	} else {
		o.Auth.DomainID = get("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID")
		if o.Auth.DomainID == "" {
			if o.Auth.DomainName = get("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME"); o.Auth.DomainName == "" {
				o.Auth.DomainID = or(get("OS_DEFAULT_DOMAIN"), "default")
			}
		}
	}
	scope := &gophercloud.AuthScope{TrustID: get("OS_TRUST_ID")}
	if id := get("OS_PROJECT_ID", "OS_TENANT_ID"); id != "" {
		scope.ProjectID = id
	} else if name := get("OS_PROJECT_NAME", "OS_TENANT_NAME"); name != "" {
		scope.ProjectName = name
		scope.DomainID = get("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID")
		if scope.DomainID == "" {
			if scope.DomainName = get("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME"); scope.DomainName == "" {
				scope.DomainID = or(get("OS_DEFAULT_DOMAIN"), "default")
			}
		}
	}
	switch v := get("OS_SYSTEM_SCOPE"); v {
	case "":
	case "all":
		scope.System = true
	default:
		complaints = append(complaints, fmt.Errorf("OS_SYSTEM_SCOPE: %.60q, want all", v))
	}
	o.Auth.Scope = scope
	if v := get("OS_IDENTITY_API_VERSION"); v != "" && v != "3" && !strings.HasPrefix(v, "3.") {
		complaints = append(complaints, fmt.Errorf("OS_IDENTITY_API_VERSION: %.60q, want 3", v))
	}
	switch v := get("OS_AUTH_TYPE"); v {
	case "", "password", "v3password":
	case "v3applicationcredential", "application_credential":
		complaints = append(complaints, errAppCredential)
	default:
		complaints = append(complaints, fmt.Errorf("OS_AUTH_TYPE: %.60q, want password", v))
	}
	if o.TLS, err = tlsConfig(get("OS_CACERT"), get("OS_CERT"), get("OS_KEY"), insecure); err != nil {
		complaints = append(complaints, err)
	}
	if err := lines(complaints); err != nil {
		return Options{}, err
	}
	return o, nil
}

// quoted is what yaml's errors cite of the file: it may be part of a password.
var quoted = regexp.MustCompile("`[^`]*`")

// fromFile reads clouds.yaml. Everything that gophercloud would take from the
// process's environment is handed over, so that lookup alone counts.
func fromFile(get func(...string) string, insecure *bool) (Options, error) {
	options := []clouds.ParseOption{
		clouds.WithCloudName(get("OS_CLOUD")),
		clouds.WithRegion(get("OS_REGION_NAME")),
		clouds.WithEndpointType(get("OS_INTERFACE", "OS_ENDPOINT_TYPE")),
		clouds.WithPassword(get("OS_PASSWORD")),
		clouds.WithCACertPath(get("OS_CACERT")),
		clouds.WithClientCertPath(get("OS_CERT")),
		clouds.WithClientKeyPath(get("OS_KEY")),
	}
	if file := get("OS_CLIENT_CONFIG_FILE"); file != "" {
		options = append(options, clouds.WithLocations(file))
	} else {
		places := []string{"clouds.yaml"}
		if config := get("XDG_CONFIG_HOME"); config != "" {
			places = append(places, filepath.Join(config, "openstack", "clouds.yaml"))
		} else if home := get("HOME"); home != "" {
			places = append(places, filepath.Join(home, ".config", "openstack", "clouds.yaml"))
		}
		options = append(options, clouds.WithLocations(append(places, "/etc/openstack/clouds.yaml")...))
	}
	if insecure != nil {
		options = append(options, clouds.WithInsecure(*insecure))
	}
	auth, endpoint, config, err := clouds.Parse(options...)
	if err != nil {
		return Options{}, fmt.Errorf("OS_CLOUD: %.60q: %.400s", get("OS_CLOUD"), quoted.ReplaceAllString(err.Error(), "`...`"))
	}
	// What names the scope is in Scope; these two would only say it again.
	auth.TenantID, auth.TenantName = "", ""
	if auth.Scope == nil {
		auth.Scope = &gophercloud.AuthScope{}
	}
	config.MinVersion = tls.VersionTLS12
	return Options{Auth: auth, Region: endpoint.Region, Interface: string(endpoint.Availability), TLS: config}, nil
}

var errAppCredential = errors.New("an application credential cannot be used: it is bound to one project, and each project's backups are made with a token for that project; give OS_USERNAME and OS_PASSWORD instead")

// Check names everything in the options that cannot work, in one error; nil
// where all is well. [Connect] begins with it.
func (o Options) Check() error {
	var complaints []error
	complain := func(format string, a ...any) { complaints = append(complaints, fmt.Errorf(format, a...)) }

	u, err := url.Parse(o.Auth.IdentityEndpoint)
	switch {
	case o.Auth.IdentityEndpoint == "":
		complain("OS_AUTH_URL: not set, want the address of Keystone such as https://keystone:5000/v3")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		complain("OS_AUTH_URL: not an http or https address") // not cited: it may hold a password
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		complain("OS_AUTH_URL: want an address without user, query or fragment")
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/v2.0"):
		complain("OS_AUTH_URL: %.200s is Keystone's API v2.0, want v3", u.Redacted())
	}
	a := o.Auth
	scope := a.Scope
	if scope == nil {
		scope = &gophercloud.AuthScope{ProjectID: a.TenantID, ProjectName: a.TenantName}
	}
	switch {
	case a.ApplicationCredentialID != "" || a.ApplicationCredentialName != "" || a.ApplicationCredentialSecret != "":
		complaints = append(complaints, errAppCredential)
	case a.TokenID != "":
		complain("OS_TOKEN: a token runs out, want OS_USERNAME and OS_PASSWORD")
	default:
		if a.Username == "" && a.UserID == "" {
			complain("OS_USERNAME: not set, want the name of the service user (or OS_USER_ID)")
		}
		if a.Password == "" {
			complain("OS_PASSWORD: not set")
		}
	}
	project := scope.ProjectID != "" || scope.ProjectName != ""
	if scope.TrustID != "" {
		complain("OS_TRUST_ID: a trust is for one project, want none")
	}
	if scope.System && project {
		complain("OS_SYSTEM_SCOPE and OS_PROJECT_NAME or OS_PROJECT_ID: give one of them, a token has one scope")
	}
	switch interfaceName(o.Interface) {
	case "public", "internal", "admin":
	default:
		complain("OS_INTERFACE: %.60q, want public, internal or admin", o.Interface)
	}
	switch o.Rights {
	case "", Auto, Projects:
	case Admin:
		if !project {
			complain("rights: admin needs a home project (OS_PROJECT_NAME or OS_PROJECT_ID)")
		}
	default:
		complain("rights: %.60q, want auto, admin or projects", string(o.Rights))
	}
	if o.Timeout < 0 {
		complain("timeout: %s, want more than 0", o.Timeout)
	}
	return lines(complaints)
}

// lines makes one line of several complaints.
func lines(complaints []error) error {
	if len(complaints) == 0 {
		return nil
	}
	words := make([]string, len(complaints))
	for i, e := range complaints {
		words[i] = e.Error()
	}
	return errors.New(strings.Join(words, "; "))
}

// interfaceName knows the forms publicURL and so on, which older openrc files have.
func interfaceName(s string) string { return or(strings.TrimSuffix(s, "URL"), "public") }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func insecure(s string) (*bool, error) {
	if s == "" {
		return nil, nil
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return nil, fmt.Errorf("OS_INSECURE: %.60q, want true or false", s)
	}
	return &b, nil
}

func tlsConfig(ca, cert, key string, insecure *bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure != nil && *insecure}
	var complaints []error
	if ca != "" {
		pem, err := os.ReadFile(ca)
		c.RootCAs = x509.NewCertPool()
		if err != nil {
			complaints = append(complaints, fmt.Errorf("OS_CACERT: %w", err))
		} else if !c.RootCAs.AppendCertsFromPEM(pem) {
			complaints = append(complaints, fmt.Errorf("OS_CACERT: no certificate in %s", ca))
		}
	}
	switch {
	case cert != "" && key != "":
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			complaints = append(complaints, fmt.Errorf("OS_CERT and OS_KEY: %w", err))
		}
		c.Certificates = []tls.Certificate{pair}
	case cert != "" || key != "":
		complaints = append(complaints, errors.New("OS_CERT and OS_KEY: one is set without the other"))
	}
	return c, lines(complaints)
}

// keystoneURL is the root of Keystone's API v3, which is always at /v3 below the
// address that clouds publish with or without it.
func keystoneURL(authURL string) string {
	u := strings.TrimRight(authURL, "/")
	if !strings.HasSuffix(u, "/v3") {
		u += "/v3"
	}
	return u + "/"
}
