package tokenservice

import (
	"net/url"
	"strings"
)

// An authority is the origin that all addresses of the token service begin with, without trailing slash.
type authority struct {
	origin string
	host   string // with port
}

// microsoft are the domains of Microsoft's login services and their sovereign clouds. Nothing is issued
// under them, nor under names below them.
var microsoft = []string{
	"microsoftonline.com", "microsoftonline.us", "microsoftonline.de", "microsoftonline.cn", "partner.microsoftonline.cn",
	"windows.net", "microsoft.com", "microsoft.us", "chinacloudapi.cn", "windows-ppe.net", "microsoftonline-p.com", "ciamlogin.com", "b2clogin.com",
}

// authority returns the current origin, or an error in Entra's words if there is none that tokens may name.
func (s *Service) authority() (authority, error) {
	origin := s.opt.Authority()
	if origin == "" {
		return authority{}, refuse(codeTransient, "the token service does not know its public origin yet: it is not listening")
	}
	origin = strings.TrimSuffix(origin, "/")
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Scheme+"://"+u.Host != origin {
		return authority{}, refuse(codeServer, "the authority %.200q is not an origin such as https://login.example:8443", origin)
	}
	if !s.opt.AllowMicrosoftAuthority && isMicrosoft(u.Hostname()) {
		return authority{}, refuse(codeServer, "the authority %q is a name of Microsoft's login services; set a name of your own", origin)
	}
	return authority{origin: origin, host: u.Host}, nil
}

func isMicrosoft(host string) bool {
	host = "." + strings.ToLower(strings.TrimSuffix(host, "."))
	for _, domain := range microsoft {
		if strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}

// issuer is the iss of tokens of that version; tenant may be the placeholder of the tenant-independent documents.
func (a authority) issuer(version int, tenant string) string {
	if version == 2 {
		return a.origin + "/" + tenant + "/v2.0"
	}
	return a.origin + "/" + tenant + "/"
}
