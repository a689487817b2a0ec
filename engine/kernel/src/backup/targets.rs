//! What is backed up, as the tree that a snapshot's root is: restic stores the folders above an absolute target, too.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fs::directory;
use crate::pattern::clean;

/// A folder of the snapshot that is made of targets, or a target itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Branch {
    /// The target's path, if this is one.
    pub path: Option<Vec<u8>>,
    /// The target in which it was found, if it was not given itself.
    pub found_in: Option<Vec<u8>>,
    /// The folder whose metadata a folder above targets has.
    pub folder: Vec<u8>,
    /// The root below which it lies: "/", ".", "..", …
    root: Vec<u8>,
    pub children: BTreeMap<Vec<u8>, Branch>,
}

pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    clean(&[folder, b"/", name].concat())
}

/// The components that a path has in a snapshot, where nothing lies above the root; and the root that they start from.
fn components(path: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let split = |p: &[u8]| p.split(|b| *b == b'/').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>();
    if path.first() == Some(&b'/') {
        return (split(path), b"/".to_vec());
    }
    let ups = split(path).iter().take_while(|c| *c == b"..").count();
    let root = if ups == 0 { b".".to_vec() } else { vec![&b".."[..]; ups].join(&b'/') };
    (split(&clean(&[b"/", path].concat())), root)
}

impl Branch {
    fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// What was given itself stays so, where it is found in another target, too.
    fn add(&mut self, path: &[u8], found_in: Option<&[u8]>) -> Result<()> {
        let (components, root) = components(path);
        let mut here = self;
        let mut above = root.clone();
        for (depth, component) in components.iter().enumerate() {
            let mut name = component.clone();
            if depth == 0 {
                // Two roots may have the same first component: a/x and ../a/y.
                let mut number = 0;
                while here.children.get(&name).is_some_and(|other| other.root != root) {
                    number += 1;
                    name = [&component[..], format!("-{number}").as_bytes()].concat();
                }
            }
            above = join(&above, component);
            here = here.children.entry(name).or_default();
            here.root.clone_from(&root);
            here.folder.clone_from(&above);
        }
        if components.is_empty() {
            return Err(Error::invalid(format!("{} names nothing that has a name", path.escape_ascii())));
        }
        if here.path.is_none() || found_in.is_none() {
            here.path = Some(path.to_vec());
            here.found_in = found_in.map(<[u8]>::to_vec);
        }
        Ok(())
    }

    /// A target that has other targets below it is replaced by what is in it.
    fn unroll(&mut self, list: &impl Fn(&[u8]) -> std::result::Result<Vec<Box<[u8]>>, Errno>) -> Result<()> {
        if !self.is_leaf()
            && let Some(path) = self.path.take()
        {
            let target = self.found_in.take().unwrap_or_else(|| path.clone());
            for name in list(&path).map_err(|e| unlisted(&path, e))? {
                let below = join(&path, &name);
                let child = self.children.entry(name.to_vec()).or_default();
                child.folder.clone_from(&below);
                if child.path.is_none() {
                    child.path = Some(below);
                    child.found_in = Some(target.clone());
                }
            }
        }
        self.children.values_mut().try_for_each(|child| child.unroll(list))
    }
}

fn unlisted(path: &[u8], error: Errno) -> Error {
    Error::invalid(format!("the folder {} can't be listed: {error}", path.escape_ascii()))
}

fn list(path: &[u8]) -> std::result::Result<Vec<Box<[u8]>>, Errno> {
    directory::list(directory::open_folder(directory::open_path(path)?, b".")?)
}

/// The root for these targets. A target without a name of its own (`.`, `..`, `/`) stands for what is in it.
pub fn plan(targets: &[Vec<u8>]) -> Result<Branch> {
    let mut root = Branch::default();
    for target in targets {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::invalid("a path to back up is empty or has a NUL byte in it"));
        }
        let target = clean(target);
        if components(&target).0.is_empty() {
            for name in list(&target).map_err(|e| unlisted(&target, e))? {
                root.add(&join(&target, &name), Some(&target))?;
            }
        } else {
            root.add(&target, None)?;
        }
    }
    root.unroll(&list)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(branch: &Branch) -> String {
        let children: Vec<String> = branch
            .children
            .iter()
            .map(|(name, child)| {
                let name = String::from_utf8_lossy(name);
                let found = child.found_in.as_deref().map(|t| format!("<{}", String::from_utf8_lossy(t)));
                match &child.path {
                    Some(path) if child.is_leaf() => {
                        format!("{name}={}{}", String::from_utf8_lossy(path), found.unwrap_or_default())
                    }
                    _ => format!("{name}[{}]({})", String::from_utf8_lossy(&child.folder), show(child)),
                }
            })
            .collect();
        children.join(" ")
    }

    fn planned(targets: &[&str]) -> String {
        let mut root = Branch::default();
        targets.iter().for_each(|t| root.add(&clean(t.as_bytes()), None).unwrap());
        let listed = |_: &[u8]| Ok(vec![b"b".to_vec().into_boxed_slice(), b"z".to_vec().into_boxed_slice()]);
        root.unroll(&listed).unwrap();
        show(&root)
    }

    #[test]
    fn folders_above_targets_become_folders_of_the_snapshot() {
        assert_eq!(planned(&["/a/b", "/a/c/d"]), "a[/a](b=/a/b c[/a/c](d=/a/c/d))");
        assert_eq!(planned(&["x", "y/z"]), "x=x y[y](z=y/z)");
        assert_eq!(planned(&["../x", "../y/z"]), "x=../x y[../y](z=../y/z)");
    }

    #[test]
    fn the_same_name_below_another_root_gets_a_number() {
        assert_eq!(planned(&["a", "../a", "/a"]), "a=a a-1=../a a-2=/a");
        assert_eq!(planned(&["/a/x", "a/y"]), "a[/a](x=/a/x) a-1[a](y=a/y)");
    }

    #[test]
    fn a_target_above_another_is_unrolled() {
        assert_eq!(planned(&["/a", "/a/b/c"]), "a[/a](b[/a/b](b=/a/b/b</a c=/a/b/c z=/a/b/z</a) z=/a/z</a)");
        assert_eq!(
            planned(&["/a", "/a/b", "/a/b/c"]),
            "a[/a](b[/a/b](b=/a/b/b</a/b c=/a/b/c z=/a/b/z</a/b) z=/a/z</a)"
        );
        assert_eq!(planned(&["/a", "/a"]), "a=/a");
    }

    #[test]
    fn what_is_given_itself_is_not_found_in_another_target() {
        let given = (&b"a"[..], None);
        for targets in [[given, (b"a", Some(&b"."[..]))], [(b"a", Some(b".")), given]] {
            let mut root = Branch::default();
            targets.iter().for_each(|(path, found_in)| root.add(path, *found_in).unwrap());
            assert_eq!(show(&root), "a=a");
        }
    }
}
